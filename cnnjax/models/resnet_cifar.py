"""ResNet for 32x32 images and its plain twin (He et al. 2015, section 4.2).

output map   32x32    16x16   8x8
layers       1 + 2n   2n      2n      (+ 1 dense: depth = 6n + 2)
features     16       32      64

Pre-activation (He et al. 2016, arXiv:1603.05027) has the same counts; see `cnnjax.models.resnet`.
"""

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import ConvNorm, Normalization, require_images
from cnnjax.layers.layer import Layer
from cnnjax.layers.residual import (
    BasicBlock,
    Shortcut,
    Stage,
    add_blocks,
    equal_runs,
    make_block,
    run_stages,
)
from cnnjax.layers.scan import Runs
from cnnjax.ops.pool import global_avg_pool

DEEPEST = 9_998  # of the depths 6n + 2: deeper ones take minutes to trace

_PAPER = "He et al. 2015, arXiv:1512.03385"
_COUNT = "6n + 2 layers by arithmetic; table 6 rounds that of the residual nets"
_PREACT = {
    "departs": "basic blocks; the paper's 164 and 1001 layers have bottlenecks",
    "paper": "He et al. 2016, arXiv:1603.05027",
    "year": 2016,
}
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
        Variant(f"cifar_{kind}{depth}", {"depth": depth, **fields}, params, _COUNT, **about)
        for kind, fields, about in (
            ("resnet", {"shortcut": "A"}, {}),
            ("plain", {"shortcut": "none"}, {}),
            ("preresnet", {"shortcut": "A", "preactivation": True}, _PREACT),
        )
        for depth, params in _PARAMS.items()
        if kind != "preresnet" or depth in (20, 56, 110)
    ),
    depth_names={
        "cifar_resnet{depth}": {"shortcut": "A"},
        "cifar_plain{depth}": {"shortcut": "none"},
        "cifar_preresnet{depth}": {"shortcut": "A", "preactivation": True},
    },
)
class ResNetCifar(Layer):
    """Float images [n, h, w, c] of 8x8 pixels or more to float32 logits [n, num_classes].

    depth: 6n + 2.
    width: multiplies 16-32-64.
    shortcut: the paper's options: A (no parameters), B (a 1x1 convolution where shapes differ), C
      (everywhere), or none.
    preactivation: normalisation and ReLU before each convolution (He et al. 2016).
    normalization: "none": convolutions have a bias and nothing is normalised.

    Raises:
      Refused: the depth is not 6n + 2, the width leaves no channel, the images are too small.
    """

    depth: int = 20
    width: float = 1.0
    num_classes: int = 10
    shortcut: Shortcut = "A"
    preactivation: bool = False
    normalization: Normalization = "batch"

    def __post_init__(self):
        if self.depth < 8 or self.depth % 6 != 2:
            below = max(8, (self.depth - 2) // 6 * 6 + 2)
            raise Refused(
                f"depth {self.depth} is impossible: it is 6n + 2, e.g. {below} or {below + 6}"
            )
        if self.depth > DEEPEST:
            raise Refused(f"depth {self.depth} is too much: {DEEPEST} at most")
        if not 0.5 < 16 * self.width < 2**31:
            few = "too many channels" if self.width > 1 else "no channel"
            raise Refused(f"width {self.width} leaves {few}; it multiplies 16-32-64")
        super().__post_init__()

    @nn.nowrap
    def stages(self) -> list[Stage]:
        """The unbound blocks of each stage by name."""
        return [
            {
                f"stage{stage}_block{block}": make_block(
                    self, BasicBlock, round(channels * self.width), stage, block
                )
                for block in range(1, (self.depth - 2) // 6 + 1)
            }
            for stage, channels in enumerate((16, 32, 64), start=1)
        ]

    @nn.nowrap
    def equal_blocks(self) -> Runs:
        """Names of the blocks that keep their input's shape, stage by stage."""
        return equal_runs(self.stages(), round(16 * self.width))

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 8

    def setup(self):
        features, how = round(16 * self.width), self.normalization
        self.stem = ConvNorm(features, normalization=how, **self.numerics)
        add_blocks(self, self.stages())
        if self.preactivation and self.normalization == "batch":
            self.norm = self.batch_norm()
        self.head = self.dense(self.num_classes, dtype="float32")

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stage by its stride: 1, 2, 4."""
        require_images(images, self.smallest_image)
        x = nn.relu(self.stem(images, train=train))
        maps = run_stages(self, self.stages(), x, train=train)
        if self.preactivation:
            x = maps[-1]
            if self.normalization == "batch":
                x = self.norm(x, use_running_average=not train)
            maps[-1] = nn.relu(x)
        return dict(zip((1, 2, 4), maps, strict=True))

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = self.feature_maps(images, train=train)[4]
        return self.head(global_avg_pool(x).astype(float))
