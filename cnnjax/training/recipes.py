"""Recipes by name; each cites its section."""

from cnnjax.core.recipe import Data, Model, Optimizer, Recipe, Schedule, Task

he2015_cifar = Recipe(
    model=Model("cifar_resnet20"),
    data=Data("cifar10"),
    optimizer=Optimizer(learning_rate=0.1, momentum=0.9, weight_decay=1e-4),
    schedule=Schedule("he2015", boundaries=(0.5, 0.75)),  # 32k and 48k of 64k iterations
    batch_size=128,
    epochs=164,  # 64k iterations of 128 over 50,000 images
    source="He et al. 2015, arXiv:1512.03385, section 4.2",
)

lecun1998 = Recipe(
    model=Model("lenet5"),
    data=Data("mnist", normalization="lecun1998"),
    optimizer=Optimizer(learning_rate=0.005, momentum=0.9, weight_decay=0.0),
    schedule=Schedule("cosine"),
    batch_size=32,
    epochs=20,
    source="LeCun et al. 1998, section III.B: 20 passes over MNIST, pixels from -0.1 to 1.175; SGD"
    " with momentum and a cosine in place of stochastic diagonal Levenberg-Marquardt",
)

small_images = Recipe(
    model=Model("cifar_resnet20", {"width": 0.5}),
    data=Data("digits"),
    optimizer=Optimizer(learning_rate=0.05, momentum=0.9, weight_decay=1e-4),
    schedule=Schedule("cosine", warmup=0.1),
    batch_size=96,
    epochs=15,
    source="own: a warm-up and a cosine (Loshchilov & Hutter 2017), minutes on a laptop",
)

small_scenes = Recipe(
    task=Task("segmentation"),
    model=Model("unet_small"),
    data=Data("scattered_digits", normalization="channel"),
    optimizer=Optimizer("adam", learning_rate=1e-2),
    schedule=Schedule("cosine", warmup=0.05),
    batch_size=16,
    epochs=8,
    source="own: Adam, a warm-up and a cosine, minutes on a laptop",
)

RECIPES = {
    "he2015_cifar": he2015_cifar,
    "lecun1998": lecun1998,
    "small_images": small_images,
    "small_scenes": small_scenes,
}
