"""ResNet for 32x32 images and its plain twin (He et al. 2015, section 4.2).

output map   32x32    16x16   8x8
layers       1 + 2n   2n      2n      (+ 1 dense: depth = 6n + 2)
features     16       32      64
"""

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.errors import Refused
from cnnjax.core.registry import Variant, register_models
from cnnjax.layers.conv_norm import ConvNorm, Dtype, Initialization, he_normal
from cnnjax.layers.residual import (
    BasicBlock,
    Shortcut,
    Stage,
    add_blocks,
    equal_runs,
    run_stages,
)
from cnnjax.layers.scan import Runs

_PAPER = "He et al. 2015, arXiv:1512.03385"
_COUNT = "6n + 2 layers by arithmetic; table 6 rounds it"
_PARAMS = {
    20: 269_722,
    32: 464_154,
    44: 658_586,
    56: 853_018,
    110: 1_727_962,
    1202: 19_421_274,
}


@register_models(
    paper=_PAPER,
    year=2015,
    input_shape=(32, 32, 3),
    variants=tuple(
        Variant(f"cifar_{kind}{depth}", {"depth": depth, "shortcut": shortcut}, params, _COUNT)
        for kind, shortcut in (("resnet", "A"), ("plain", "none"))
        for depth, params in _PARAMS.items()
    ),
    depth_names={
        "cifar_resnet{depth}": {"shortcut": "A"},
        "cifar_plain{depth}": {"shortcut": "none"},
    },
)
class ResNetCifar(nn.Module):
    """Float images [n, h, w, c] of 8x8 pixels or more to float32 logits [n, num_classes].

    Raises:
      Refused: the depth is not 6n + 2, the width leaves no channel, the images are too small.
    """

    depth: int = 20
    width: float = 1.0  # multiplies 16-32-64
    num_classes: int = 10
    shortcut: Shortcut = "A"
    initialization: Initialization = "he_fan_in"
    dtype: Dtype = "float32"
    norm_axis: str | None = None

    def __post_init__(self):
        if self.depth < 8 or self.depth % 6 != 2:
            below = max(8, (self.depth - 2) // 6 * 6 + 2)
            raise Refused(
                f"depth {self.depth} is impossible: it is 6n + 2, e.g. {below} or {below + 6}"
            )
        if round(16 * self.width) < 1:
            raise Refused(f"width {self.width} leaves no channel; it multiplies 16-32-64")
        super().__post_init__()

    @nn.nowrap
    def stages(self) -> list[Stage]:
        """The unbound blocks of each stage by name."""
        options = (self.shortcut, self.initialization, self.dtype, self.norm_axis)
        return [
            {
                f"stage{stage}_block{block}": BasicBlock(
                    round(channels * self.width),
                    2 if stage > 1 and block == 1 else 1,
                    *options,
                    parent=None,
                )
                for block in range(1, (self.depth - 2) // 6 + 1)
            }
            for stage, channels in enumerate((16, 32, 64), start=1)
        ]

    @nn.nowrap
    def equal_blocks(self) -> Runs:
        """Names of the blocks that keep their input's shape, stage by stage."""
        return equal_runs(self.stages(), round(16 * self.width))

    def setup(self):
        self.stem = ConvNorm(
            round(16 * self.width),
            initialization=self.initialization,
            dtype=self.dtype,
            norm_axis=self.norm_axis,
        )
        add_blocks(self, self.stages())
        self.head = nn.Dense(self.num_classes, kernel_init=he_normal(self.initialization))

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stage by its stride: 1, 2, 4."""
        if min(images.shape[1:3]) < 8:
            raise Refused(f"images of {images.shape[1]}x{images.shape[2]}: 8x8 or more are needed")
        x = nn.relu(self.stem(images, train=train))
        return dict(zip((1, 2, 4), run_stages(self, self.stages(), x, train=train), strict=True))

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = self.feature_maps(images, train=train)[4]
        return self.head(x.mean((1, 2)).astype("float32"))
