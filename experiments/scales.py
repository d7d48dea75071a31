"""The sizes at which several studies are run, as settings: what two cores bear, and the papers'."""

from cnnjax import Schedule, he2015_cifar, small_images

# 300 images of digits: enough for the networks to differ, and for minutes.
FEW_DIGITS = {"data.train_examples": 300, "batch_size": 32, "epochs": 45}

# CIFAR-10 for two cores.
CIFAR_16 = {
    "data.name": "cifar10",
    "data.image_size": 16,
    "data.train_examples": 5_000,
    "batch_size": 100,
    "epochs": 12,
}

# Crops of an eighth of the image, as 4 pixels are of 32.
CIFAR_16_CROPPED = {**CIFAR_16, "data.crop_padding": 2}

# He et al. 2015, section 4.2.
CIFAR = {
    "data.name": "cifar10",
    "optimizer.learning_rate": he2015_cifar.optimizer.learning_rate,
    "schedule": he2015_cifar.schedule,
    "batch_size": he2015_cifar.batch_size,
    "epochs": he2015_cifar.epochs,
}

# Without it some seeds fail where many convolutions follow each other without normalisation.
CLIPPED = small_images.optimizer.with_field("clip_norm", 1.0)

# Krizhevsky et al. 2012, sections 4.1 and 5, where the rate is divided by 10 when the validation
# error stops falling: here at fixed shares of the run. Crops of Simonyan & Zisserman 2014, section
# 3.1.
IMAGENET = {
    "data.name": "imagenet2012",
    "data.test_split": "validation",
    "data.image_size": 227,
    "data.augmentation": "scale_crop_flip",
    "data.pca_colour": 0.1,
    "optimizer.learning_rate": 0.01,
    "optimizer.weight_decay": 5e-4,
    "schedule": Schedule("he2015", boundaries=(0.33, 0.67, 0.9)),
    "batch_size": 128,
    "epochs": 90,
}

# Simonyan & Zisserman 2014, section 3.1.
VGG_IMAGENET = {**IMAGENET, "data.image_size": 224, "batch_size": 256, "epochs": 74}

# Scenes of one or two digits: a U-Net learns them in half a minute.
FEW_SCENES = {
    "data.scenes.train": 1_000,
    "data.scenes.size": 32,
    "data.scenes.most": 2,
    "data.scenes.smallest": 14,
    "data.scenes.largest": 20,
    "data.scenes.clutter": 3,
    "steps": 1_000,
}

# The same for tests: does it run?
SMOKE_SCENES = {**FEW_SCENES, "data.scenes.train": 64, "data.scenes.test": 32, "steps": 12}

# Larger scenes, in which the nets of the papers have room.
MANY_SCENES = {
    "data.scenes.source": "mnist",
    "data.scenes.train": 20_000,
    "data.scenes.test": 2_000,
    "data.scenes.size": 128,
    "data.scenes.most": 10,
    "data.scenes.overlap": 0.3,
    "steps": 20_000,
}

# With the channels of Ronneberger et al. 2015.
LARGE_UNET = {**MANY_SCENES, "model.features": 64, "model.depth": 4}
