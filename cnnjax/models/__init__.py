"""The architectures, one file a family. Importing this package registers them all."""

from cnnjax.models import resnet as resnet
from cnnjax.models import resnet_cifar as resnet_cifar
