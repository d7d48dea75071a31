"""VGG (Simonyan & Zisserman 2014, table 1): stages of 3x3 convolutions, a 2x2 max after each.

stage   features  A    A-LRN     B     C          D     E
1       64        1    1 + LRN   2     2          2     2
2       128       1    1         2     2          2     2
3       256       2    2         2     2 + 1x1    3     4
4       512       2    2         2     2 + 1x1    3     4
5       512       2    2         2     2 + 1x1    3     4
dense   4096, 4096, num_classes; dropout 0.5 behind the first two
name              vgg11 vgg11_lrn vgg13 vgg16_c   vgg16 vgg19
"""

from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.layers.conv_norm import Conv, require_images
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.layer import Initialization, Layer
from cnnjax.ops.norm import local_response_norm
from cnnjax.ops.pool import max_pool

Net = Literal["A", "A-LRN", "B", "C", "D", "E"]

FEATURES = (64, 128, 256, 512, 512)
# Kernel sizes of the convolutions of each stage.
NETS: dict[str, tuple[tuple[int, ...], ...]] = {
    "A": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "A-LRN": ((3,), (3,), (3, 3), (3, 3), (3, 3)),
    "B": ((3, 3),) * 5,
    "C": ((3, 3), (3, 3), (3, 3, 1), (3, 3, 1), (3, 3, 1)),
    "D": ((3, 3), (3, 3), (3, 3, 3), (3, 3, 3), (3, 3, 3)),
    "E": ((3, 3), (3, 3), (3, 3, 3, 3), (3, 3, 3, 3), (3, 3, 3, 3)),
}
_PARAMS = {  # plain, with batch normalisation
    "A": (132_863_336, 132_868_840),
    "B": (133_047_848, 133_053_736),
    "D": (138_357_544, 138_365_992),
    "E": (143_667_240, 143_678_248),
}
_NAMES = {"A": "vgg11", "B": "vgg13", "D": "vgg16", "E": "vgg19"}
_MACS = {"A": 7.61e9, "B": 11.31e9, "D": 15.47e9, "E": 19.63e9}
_SOURCE = "torchvision's documentation; table 2 rounds it"
_BN = "batch normalisation behind each convolution (torchvision's _bn)"


def _variants() -> tuple[Variant, ...]:
    documented = "torchvision's documentation"
    rows = [
        Variant(
            name, {"net": net}, _PARAMS[net][0], _SOURCE, macs=_MACS[net], macs_source=documented
        )
        for net, name in _NAMES.items()
    ]
    rows += [
        Variant("vgg11_lrn", {"net": "A-LRN"}, _PARAMS["A"][0], "as vgg11: LRN has no parameters"),
        Variant("vgg16_c", {"net": "C"}, 133_638_952, "table 2 rounds it (134 million)"),
        Variant(
            "vgg13_5x5",
            {"net": "B", "kernel": "5x5"},
            134_503_528,
            "section 2.3's comparison, the sum over its layers",
        ),
    ]
    rows += [
        Variant(
            f"{name}_bn",
            {"net": net, "norm": "batch"},
            _PARAMS[net][1],
            _SOURCE,
            macs=_MACS[net],
            macs_source=documented,
            departs=_BN,
        )
        for net, name in _NAMES.items()
    ]
    return tuple(rows)


@register_models(
    paper="Simonyan & Zisserman 2014, arXiv:1409.1556",
    year=2014,
    input_shape=(224, 224, 3),
    variants=_variants(),
)
class VGG(Layer, kw_only=True):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, num_classes].

    The default initialisation is Glorot's, with which the paper found that no pre-training is
    needed (section 3.1).

    net: the column of table 1.
    kernel: "5x5" puts one 5x5 in place of each pair of 3x3 (section 2.3: the shallower net that B
      is compared with).
    norm: batch normalisation behind each convolution, or none.
    dropout: probability behind each of the two hidden dense layers.
    ceil_mode: poolings keep a last row that does not fill their window (SSD300: 75 pixels to 38).
    """

    net: Net = "D"
    num_classes: int = 1000
    kernel: Literal["3x3x2", "5x5"] = "3x3x2"
    norm: Literal["none", "batch"] = "none"
    dropout: float = 0.5
    ceil_mode: bool = False
    initialization: Initialization = "glorot"

    @nn.nowrap
    def stages(self) -> dict[str, tuple[int, int]]:
        """Features and kernel size of each convolution by name: "stage1_conv1", ..."""
        rows = {}
        for stage, (features, kernels) in enumerate(zip(FEATURES, NETS[self.net], strict=True), 1):
            if self.kernel == "5x5":
                pairs = kernels.count(3) // 2
                kernels = (5,) * pairs + kernels[2 * pairs :]
            for index, size in enumerate(kernels, 1):
                rows[f"stage{stage}_conv{index}"] = (features, size)
        return rows

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 32

    def setup(self):
        for name, (features, size) in self.stages().items():
            setattr(self, name, Conv(features, size, use_bias=True, **self.numerics))
            if self.norm == "batch":
                setattr(self, name.replace("conv", "norm"), self.batch_norm())
        self.dense6, self.dense7 = self.dense(4096), self.dense(4096)
        self.head = self.dense(self.num_classes)
        self.drop = Dropout(self.dropout)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stage and the last pooling by stride: 1, 2, 4, 8, 16, 32."""
        require_images(images, self.smallest_image)
        x, maps = images, {}
        names = list(self.stages())
        for name, following in zip(names, [*names[1:], "dense"], strict=True):
            x = getattr(self, name)(x)
            if self.norm == "batch":
                norm = getattr(self, name.replace("conv", "norm"))
                x = norm(x, use_running_average=not train)
            x = nn.relu(x)
            if self.net == "A-LRN" and name == "stage1_conv1":
                x = local_response_norm(x)
            if following.split("_")[0] != name.split("_")[0]:  # the stage ends
                maps[2 ** len(maps)] = x
                x = max_pool(x, 2, ceil_mode=self.ceil_mode)
        return {**maps, 32: x}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = self.feature_maps(images, train=train)[32]
        x = x.reshape(x.shape[0], -1)
        x = self.drop(nn.relu(self.dense6(x)), deterministic=not train)
        x = self.drop(nn.relu(self.dense7(x)), deterministic=not train)
        return self.head(x).astype(float)
