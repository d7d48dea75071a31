"""What one training step and one evaluation mean. Importing this package registers the tasks."""

from cnnjax.tasks import classification as classification
from cnnjax.tasks import detection as detection
from cnnjax.tasks import segmentation as segmentation
