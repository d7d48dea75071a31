"""The architectures, one file a family. Importing this package registers them all."""

from cnnjax.models import lenet as lenet  # isort: skip  (the lineage, by year)
from cnnjax.models import lenet_dense as lenet_dense  # isort: skip
from cnnjax.models import alexnet as alexnet  # isort: skip
from cnnjax.models import alexnet_small as alexnet_small  # isort: skip
from cnnjax.models import vgg as vgg

from cnnjax.models import vgg_small as vgg_small  # isort: skip
from cnnjax.models import googlenet as googlenet  # isort: skip
from cnnjax.models import resnet as resnet  # isort: skip
from cnnjax.models import resnet_cifar as resnet_cifar  # isort: skip
from cnnjax.models import rcnn as rcnn  # isort: skip
from cnnjax.models import faster_rcnn as faster_rcnn  # isort: skip
from cnnjax.models import mask_rcnn as mask_rcnn  # isort: skip
from cnnjax.models import ssd as ssd  # isort: skip
from cnnjax.models import retinanet as retinanet  # isort: skip
from cnnjax.models import fcn as fcn  # isort: skip
from cnnjax.models import unet as unet  # isort: skip
from cnnjax.models import segnet as segnet  # isort: skip
