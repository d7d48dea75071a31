"""The names and layouts that torchvision gives to the parameters of each family.

Kernels are OIHW there, HWIO here; dense weights [out, in] there, [in, out] here; a dense layer
behind a flattened map sees channels first there, last here. A network that torchvision does not
have keeps its own names, joined by dots.
"""

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from cnnjax.models.alexnet import AlexNet
from cnnjax.models.googlenet import GoogLeNet
from cnnjax.models.resnet import ResNet
from cnnjax.models.resnet_cifar import ResNetCifar
from cnnjax.models.vgg import VGG

VariablePath = tuple[str, ...]  # collection, modules, name: ("params", "stem", "conv", "kernel")

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}


@dataclass(frozen=True)
class Torch:
    """An array as PyTorch has it.

    Attributes:
      name: its key in a state dict.
      flattened: channels of the map that was flattened in front of a dense layer, or None.
    """

    name: str
    flattened: int | None = None

    def export(self, array: np.ndarray) -> np.ndarray:
        """Our array in PyTorch's layout."""
        if array.ndim == 4:
            return np.ascontiguousarray(array.transpose(3, 2, 0, 1))
        if array.ndim != 2:
            return array
        if self.flattened:  # height and width lie together on both sides
            array = array.reshape(-1, self.flattened, array.shape[1]).transpose(1, 0, 2)
            array = array.reshape(-1, array.shape[-1])
        return np.ascontiguousarray(array.T)

    def take(self, array: np.ndarray) -> np.ndarray:
        """PyTorch's array in our layout."""
        if array.ndim == 4:
            return np.ascontiguousarray(array.transpose(2, 3, 1, 0))
        if array.ndim != 2:
            return array
        array = array.T
        if self.flattened:
            array = array.reshape(self.flattened, -1, array.shape[1]).transpose(1, 0, 2)
            array = array.reshape(-1, array.shape[-1])
        return np.ascontiguousarray(array)

    def torch_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        """The shape of our array in PyTorch's layout."""
        if len(shape) == 4:
            return (shape[3], shape[2], shape[0], shape[1])
        return shape[::-1] if len(shape) == 2 else shape


def torch_of(model: Any, path: VariablePath) -> Torch:
    """What PyTorch calls the variable of `model` at `path`."""
    _, *modules, leaf = path
    for family, name_of, flattened_of in _FAMILIES:
        if isinstance(model, family) and not getattr(model, "preactivation", False):
            module = name_of(model, "/".join(modules))
            return Torch(f"{module}.{_LEAVES.get(leaf, leaf)}", flattened_of(model, modules[0]))
    return Torch(".".join([*modules, _LEAVES.get(leaf, leaf)]))


def _resnet(model: Any, module: str) -> str:
    module = re.sub(r"^stage(\d+)_block(\d+)", lambda m: f"layer{m[1]}.{int(m[2]) - 1}", module)
    for pattern, name in (
        (r"^head$", "fc"),
        (r"^stem/conv$", "conv1"),
        (r"^stem/norm$", "bn1"),
        (r"/conv(\d)/conv$", r".conv\1"),
        (r"/conv(\d)/norm$", r".bn\1"),
        (r"/shortcut/conv$", ".downsample.0"),
        (r"/shortcut/norm$", ".downsample.1"),
    ):
        module = re.sub(pattern, name, module)
    return module


def _vgg(model: VGG, module: str) -> str:
    at, stage = 0, "stage1"
    for name in model.stages():
        if not name.startswith(stage):  # a pooling stands between
            at, stage = at + 1, name.split("_")[0]
        if module == name:
            return f"features.{at}"
        if model.norm == "batch":
            at += 1
            if module == name.replace("conv", "norm"):
                return f"features.{at}"
        at += 2  # itself and its ReLU
    return {"dense6": "classifier.0", "dense7": "classifier.3", "head": "classifier.6"}[module]


def _alexnet(model: AlexNet, module: str) -> str:
    return {
        "conv1": "features.0",
        "conv2": "features.3",
        "conv3": "features.6",
        "conv4": "features.8",
        "conv5": "features.10",
        "dense6": "classifier.1",
        "dense7": "classifier.4",
        "head": "classifier.6",
    }[module]


def _googlenet(model: GoogLeNet, module: str) -> str:
    for pattern, name in (
        (r"^head$", "fc"),
        (r"^conv2/", "conv3/"),
        (r"^conv2_reduce/", "conv2/"),
        (r"^(inception..)/conv1/", r"\1.branch1/"),
        (r"^(inception..)/reduce3/", r"\1.branch2.0/"),
        (r"^(inception..)/conv3/", r"\1.branch2.1/"),
        (r"^(inception..)/reduce5/", r"\1.branch3.0/"),
        (r"^(inception..)/conv5/", r"\1.branch3.1/"),
        (r"^(inception..)/project/", r"\1.branch4.1/"),
        (r"^(aux\d)_conv/", r"\1.conv/"),
        (r"^(aux\d)_dense$", r"\1.fc1"),
        (r"^(aux\d)_head$", r"\1.fc2"),
        (r"/norm$", ".bn"),
        (r"/conv$", ".conv"),
    ):
        if re.search(pattern, module):
            module = re.sub(pattern, name, module)
            if name in ("conv3/", "conv2/"):  # the two exchange a name: once is enough
                return re.sub("/conv$", ".conv", re.sub("/norm$", ".bn", module))
    return module


_FAMILIES: tuple[tuple[type, Callable[[Any, str], str], Callable[[Any, str], int | None]], ...] = (
    (ResNet, _resnet, lambda model, module: None),
    (ResNetCifar, _resnet, lambda model, module: None),
    (VGG, _vgg, lambda model, module: 512 if module == "dense6" else None),
    (AlexNet, _alexnet, lambda model, module: model.features[4] if module == "dense6" else None),
    (GoogLeNet, _googlenet, lambda model, module: 128 if module.endswith("_dense") else None),
)
