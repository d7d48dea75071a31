"""The names that torchvision gives to the arrays of each family.

The networks that ship know their names and layouts by this table; PreActResNet and LeNet-5, which
torchvision does not have, keep our names, joined by dots.
"""

import re
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from cnnjax.interop.layout import (
    Layout,
    Torch,
    as_it_is,
    channels_first,
    convolution,
    dense,
    transposed_convolution,
)
from cnnjax.interop.variables import VariablePath
from cnnjax.models.alexnet import AlexNet
from cnnjax.models.faster_rcnn import FasterRCNN
from cnnjax.models.fcn import FCNResNet
from cnnjax.models.googlenet import GoogLeNet
from cnnjax.models.lenet import LeNet5
from cnnjax.models.mask_rcnn import MaskRCNN
from cnnjax.models.resnet import ResNet
from cnnjax.models.resnet_cifar import ResNetCifar
from cnnjax.models.retinanet import RetinaNet
from cnnjax.models.ssd import SSD300
from cnnjax.models.vgg import VGG

_LEAVES = {"kernel": "weight", "scale": "weight", "mean": "running_mean", "var": "running_var"}
# Names of torchvision before 0.13, by those of today.
_BEFORE_BLOCKS: tuple[tuple[str, Any], ...] = (
    (r"(inner_blocks|layer_blocks)\.(\d+)\.0\.", r"\1.\2."),
    (r"rpn\.head\.conv\.0\.0\.", "rpn.head.conv."),
    (r"mask_head\.(\d+)\.0\.", lambda found: f"mask_head.mask_fcn{int(found[1]) + 1}."),
    (r"(_head)\.conv\.(\d+)\.0\.", lambda found: f"{found[1]}.conv.{2 * int(found[2])}."),
)
_TRANSPOSED = ("mask_up",)  # convolutions: where in and out are alike, no shape tells them
_LONE = ("l2_scale",)  # parameters that lie in the network itself


def family_arrays(
    model: Any, shapes: Mapping[VariablePath, tuple[int, ...]]
) -> dict[VariablePath, Torch] | None:
    """PyTorch's name and layout of each variable of a network that ships; None for any other."""
    if type(model) not in _FAMILIES or not _stands_as_torchvisions(model):
        return None
    name_of, flattened_of = _FAMILIES[type(model)]
    if getattr(model, "preactivation", False):
        name_of = _dotted
    arrays = {}
    for path, shape in shapes.items():
        _, *modules, leaf = path
        module = "/".join([*modules, leaf] if leaf in _LONE else modules)
        name = name_of(model, module)
        if leaf not in _LONE:
            name = f"{name}.{_LEAVES.get(leaf, leaf)}"
        if len(shape) == 4 and module in _TRANSPOSED:
            layout = transposed_convolution(2)
        else:
            layout = _layout(shape, flattened_of(model, module))
        arrays[path] = Torch(name, layout)
    return arrays


def other_names(model: Any, names: Iterable[str]) -> tuple[str, dict[str, str]]:
    """torchvision's name of today by another one that files have: timm's, or torchvision's before
    0.13.

    timm has the first two dense layers of VGG as convolutions over 7x7 and 1x1 pixels: the same
    numbers in the same order; its ResNets have torchvision's names. Published detectors were
    written before their convolutions stood in blocks.

    Args:
      names: of the arrays of `model`.

    Returns:
      Whose names they are, and the names.
    """
    if type(model) is VGG:
        layers = {
            "pre_logits.fc1": "classifier.0",
            "pre_logits.fc2": "classifier.3",
            "head.fc": "classifier.6",
        }
        return "timm's", {
            f"{timm}.{leaf}": f"{torchvision}.{leaf}"
            for timm, torchvision in layers.items()
            for leaf in ("weight", "bias")
        }
    if not isinstance(model, FasterRCNN | RetinaNet):
        return "", {}
    older = {}
    for name in names:
        before = name
        for pattern, form in _BEFORE_BLOCKS:
            before = re.sub(pattern, form, before)
        if before != name:
            older[before] = name
    return "older torchvision's", older


def trained_only(model: Any) -> tuple[str, ...]:
    """Beginnings of names that torchvision's file of a network has and `model` does without.

    Its GoogLeNet always carries the auxiliary heads, which count while training only.
    """
    return ("aux1.", "aux2.") if type(model) is GoogLeNet and not model.aux else ()


def _layout(shape: tuple[int, ...], flattened: int | None) -> Layout:
    """`flattened`: channels of the map that was flattened in front of a dense layer."""
    if len(shape) == 4:
        return convolution(2)
    if len(shape) != 2:
        return as_it_is(len(shape))
    if flattened is None or flattened == shape[0]:
        return dense()
    return dense(channels_first((shape[0] // flattened, flattened)))


def _dotted(model: Any, module: str) -> str:
    return module.replace("/", ".")


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


def _fcn(model: FCNResNet, module: str) -> str:
    if module.startswith("body/"):
        return f"backbone.{_resnet(model, module.removeprefix('body/'))}"
    head = "aux_classifier" if module.startswith("aux_") else "classifier"
    for end, index in (("_conv/conv", 0), ("_conv/norm", 1)):
        if module.endswith(end):
            return f"{head}.{index}"
    return f"{head}.4"


def _pyramid(model: Any, module: str) -> str:
    """Of a resnet and its pyramid; torchvision counts maps from the finest."""
    if module.startswith("body/"):
        return f"backbone.body.{_resnet(model, module.removeprefix('body/'))}"
    kind, stride = re.sub(r"\d+$", "", module.split("/")[1]), int(re.findall(r"\d+$", module)[0])
    if stride not in model.strides:
        return f"backbone.fpn.extra_blocks.p{stride.bit_length() - 1}"
    blocks = {"lateral": "inner_blocks", "output": "layer_blocks"}[kind]
    return f"backbone.fpn.{blocks}.{model.strides.index(stride)}.0"


def _faster_rcnn(model: FasterRCNN, module: str) -> str:
    return {
        "rpn_conv": "rpn.head.conv.0.0",
        "rpn_scores": "rpn.head.cls_logits",
        "rpn_moves": "rpn.head.bbox_pred",
        "dense1": "roi_heads.box_head.fc6",
        "dense2": "roi_heads.box_head.fc7",
        "classes": "roi_heads.box_predictor.cls_score",
        "moves": "roi_heads.box_predictor.bbox_pred",
    }.get(module) or _pyramid(model, module)


def _mask_rcnn(model: MaskRCNN, module: str) -> str:
    if found := re.fullmatch(r"mask_conv(\d+)", module):
        return f"roi_heads.mask_head.{int(found[1]) - 1}.0"
    return {
        "mask_up": "roi_heads.mask_predictor.conv5_mask",
        "masks": "roi_heads.mask_predictor.mask_fcn_logits",
    }.get(module) or _faster_rcnn(model, module)


def _retinanet(model: RetinaNet, module: str) -> str:
    if module.startswith(("body/", "fpn/")):
        return _pyramid(model, module)
    if module in ("classes", "boxes"):
        return {
            "classes": "head.classification_head.cls_logits",
            "boxes": "head.regression_head.bbox_reg",
        }[module]
    head, index = module.split("_conv")
    kind = {"class": "classification", "box": "regression"}[head]
    return f"head.{kind}_head.conv.{int(index) - 1}.0"


def _ssd300(model: SSD300, module: str) -> str:
    if module == "l2_scale":
        return "backbone.scale_weight"
    if module.startswith("body/"):
        body = model.make_body()
        index = int(_vgg(body, module.removeprefix("body/")).split(".")[1])
        # The pooling behind stage 4 begins what torchvision calls extra.
        first = int(_vgg(body, "stage5_conv1").split(".")[1]) - 1
        return f"backbone.{'features' if index < first else 'extra.0'}.{index % first}"
    if module in ("conv6", "conv7"):
        return f"backbone.extra.0.7.{ {'conv6': 1, 'conv7': 3}[module] }"
    kind, stride = re.sub(r"\d+$", "", module), int(re.findall(r"\d+$", module)[0])
    at = model.strides.index(stride)
    if kind in ("classes", "boxes"):
        head = {"classes": "classification", "boxes": "regression"}[kind]
        return f"head.{head}_head.module_list.{at}"
    return f"backbone.extra.{at - 1}.{ {'reduce': 0, 'conv': 2}[kind] }"


def _stands_as_torchvisions(model: Any) -> bool:
    """Whether a network that stands on another one stands on torchvision's."""
    if isinstance(model, FCNResNet | RetinaNet):
        return model.backbone.startswith("resnet")
    if isinstance(model, FasterRCNN):
        standard = model.pyramid > 0 and len(model.hidden) == 2
        return model.backbone.startswith("resnet") and standard
    return not isinstance(model, SSD300) or model.backbone == "vgg16"


_FAMILIES: dict[type, tuple[Callable[[Any, str], str], Callable[[Any, str], int | None]]] = {
    # Names of modules, and the channels of the map that is flattened in front of one.
    ResNet: (_resnet, lambda model, module: None),
    ResNetCifar: (_resnet, lambda model, module: None),
    VGG: (_vgg, lambda model, module: 512 if module == "dense6" else None),
    AlexNet: (_alexnet, lambda model, module: model.features[4] if module == "dense6" else None),
    GoogLeNet: (_googlenet, lambda model, module: 128 if module.endswith("_dense") else None),
    LeNet5: (_dotted, lambda model, module: None),
    FCNResNet: (_fcn, lambda model, module: None),
    FasterRCNN: (
        _faster_rcnn,
        lambda model, module: model.pyramid if module == "dense1" else None,
    ),
    MaskRCNN: (
        _mask_rcnn,
        lambda model, module: model.pyramid if module == "dense1" else None,
    ),
    RetinaNet: (_retinanet, lambda model, module: None),
    SSD300: (_ssd300, lambda model, module: None),
}
