"""ResNet for ImageNet and its plain twin (He et al. 2015, table 1).

layer    output   18        34        50           101          152
stem     112x112  7x7, 64, stride 2
pool     56x56    3x3 max, stride 2
stage1   56x56    2 basic   3 basic   3 bottleneck 3 bottleneck 3 bottleneck    64 features
stage2   28x28    2         4         4            4            8               128
stage3   14x14    2         6         6            23           36              256
stage4   7x7      2         3         3            3            3               512
head     1x1      global average, dense 1000

Pre-activation (He et al. 2016, arXiv:1603.05027, figure 4e): the stem is activated, the first
block starts from there, and the last map is normalised and activated once more. With basic blocks
and shortcut A the counts are those of post-activation: each normalisation moves from behind its
convolution to before it, and the stem's and the last one make up the ends. A projection (B) loses
its normalisation, 2 x its features: resnet18 and 34 have 2 (128 + 256 + 512) = 1,792 fewer. In a
bottleneck net each block's last normalisation (4 x features) becomes its first (features in); the
sums over blocks telescope to the same total, and the four projections lose 2 (256 + 512 + 1024 +
2048) = 7,680.
"""

from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import ConvNorm, require_images
from cnnjax.layers.layer import Layer
from cnnjax.layers.residual import (
    BasicBlock,
    BottleneckBlock,
    Shortcut,
    Stage,
    add_blocks,
    equal_runs,
    make_block,
    run_stages,
)
from cnnjax.layers.scan import Runs
from cnnjax.ops.pool import global_avg_pool, max_pool

_PAPER = "He et al. 2015, arXiv:1512.03385"
_COUNT = "torchvision's documented count, which equals table 1's layers with option B"
_PLAIN = "table 1's layers by arithmetic; equal to option A"
_PREACT = "by arithmetic, see the docstring of cnnjax.models.resnet"
_PREACT_PAPER = "He et al. 2016, arXiv:1603.05027"
_V15 = "v1.5, torchvision's: a bottleneck strides in its 3x3, the paper in its first 1x1"
_B_EVERYWHERE = "shortcut B; the paper's first comparison (table 2) has A"

BLOCKS = {
    18: (BasicBlock, (2, 2, 2, 2)),
    34: (BasicBlock, (3, 4, 6, 3)),
    50: (BottleneckBlock, (3, 4, 6, 3)),
    101: (BottleneckBlock, (3, 4, 23, 3)),
    152: (BottleneckBlock, (3, 8, 36, 3)),
}
_PARAMS_B = {18: 11_689_512, 34: 21_797_672, 50: 25_557_032, 101: 44_549_160, 152: 60_192_808}
_PARAMS_PLAIN = {18: 11_515_688, 34: 21_623_848, 50: 22_780_456, 101: 41_772_584, 152: 57_416_232}


# Table 1's FLOPs are MACs; torchvision documents MACs / 10^9 of v1.5 as GFLOPS.
_MACS_V1 = {18: 1.8e9, 34: 3.6e9, 50: 3.8e9, 101: 7.6e9, 152: 11.3e9}
_MACS_V15 = {50: 4.09e9, 101: 7.80e9, 152: 11.51e9}


def _variants() -> tuple[Variant, ...]:
    rows = [
        Variant(
            f"resnet{d}",
            {"depth": d},
            count,
            _COUNT,
            macs=_MACS_V15.get(d, _MACS_V1[d]),
            macs_source="torchvision's documentation" if d in _MACS_V15 else "table 1",
            departs=_V15 if d in _MACS_V15 else _B_EVERYWHERE,
        )
        for d, count in _PARAMS_B.items()
    ]
    rows += [
        Variant(
            f"resnet{d}_v1",
            {"depth": d, "stride_at": "1x1"},
            _PARAMS_B[d],
            _COUNT,
            macs=_MACS_V1[d],
            macs_source="table 1",
        )
        for d in (50, 101, 152)
    ]
    rows += [
        Variant(
            f"plain{d}",
            {"depth": d, "shortcut": "none"},
            count,
            _PLAIN,
            macs=_MACS_V1[d] if d < 50 else None,
            macs_source="table 1" if d < 50 else "",
            departs="" if d < 50 else "the paper has plain nets of 18 and 34 layers only",
        )
        for d, count in _PARAMS_PLAIN.items()
    ]
    rows += [
        Variant(
            f"preresnet{d}",
            {"depth": d, "preactivation": True},
            count - (1_792 if d < 50 else 7_680),
            _PREACT,
            departs="" if d < 50 else "strides in the 3x3 of a bottleneck",
            paper=_PREACT_PAPER,
            year=2016,
        )
        for d, count in _PARAMS_B.items()
    ]
    return tuple(rows)


@register_models(paper=_PAPER, year=2015, input_shape=(224, 224, 3), variants=_variants())
class ResNet(Layer):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, num_classes].

    depth: 18, 34, 50, 101 or 152.
    shortcut: the paper's options: A (no parameters), B (a 1x1 convolution where shapes differ), C
      (everywhere), or none.
    stride_at: where a bottleneck has its stride: "3x3" is v1.5 (torchvision), "1x1" the paper's v1.
    preactivation: normalisation and ReLU before each convolution (He et al. 2016).
    output_stride: of the last map; where it is below 32, the last stages have dilations in place of
      strides (Yu & Koltun 2016, arXiv:1511.07122), as segmentation wants it.
    normalization: batch, or frozen: by statistics that are given and not trained, as the backbone
      of a detector has them.

    Raises:
      Refused: the depth is not in table 1, normalisation before convolutions is to be frozen or
        dilated, or the images are too small.
    """

    depth: int = 50
    num_classes: int = 1000
    shortcut: Shortcut = "B"
    stride_at: Literal["1x1", "3x3"] = "3x3"
    preactivation: bool = False
    output_stride: Literal[8, 16, 32] = 32
    normalization: Literal["batch", "frozen"] = "batch"

    def __post_init__(self):
        if self.depth not in BLOCKS:
            raise Refused(f"depth {self.depth} is not in table 1: it is one of {sorted(BLOCKS)}")
        if self.preactivation and (self.normalization, self.output_stride) != ("batch", 32):
            raise Refused(
                f"normalization={self.normalization}, output_stride={self.output_stride}: with"
                " preactivation there are batch and 32 only"
            )
        super().__post_init__()

    @nn.nowrap
    def stages(self) -> list[Stage]:
        """The unbound blocks of each stage by name."""
        block_class, sizes = BLOCKS[self.depth]
        options = {"stride_at": self.stride_at} if block_class is BottleneckBlock else {}
        return [
            {
                f"stage{stage}_block{block}": make_block(
                    self,
                    block_class,
                    64 * 2 ** (stage - 1),
                    stage,
                    block,
                    dilation=self._dilation(stage, block),
                    **options,
                )
                for block in range(1, size + 1)
            }
            for stage, size in enumerate(sizes, start=1)
        ]

    def _dilation(self, stage: int, block: int) -> int | None:
        """Of a block's 3x3, where the stage has no stride: its first block still sees as before."""
        without = 2 ** (stage + 1) // self.output_stride
        if without <= 1:
            return None
        return without // 2 if block == 1 else without

    @nn.nowrap
    def equal_blocks(self) -> Runs:
        """Names of the blocks that keep their input's shape, stage by stage."""
        return equal_runs(self.stages(), 64)

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 32

    def setup(self):
        self.stem = ConvNorm(64, 7, 2, normalization=self.normalization, **self.numerics)
        add_blocks(self, self.stages())
        if self.preactivation:
            self.norm = self.batch_norm()
        self.head = self.dense(self.num_classes, dtype="float32")

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """The last map of each stride: 4, 8, 16, 32."""
        strides = [min(2 ** (stage + 1), self.output_stride) for stage in range(1, 5)]
        return dict(zip(strides, self.stage_maps(images, train=train), strict=True))

    def stage_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> list[Float[Array, "n _ _ _"]]:
        """The last map of each stage."""
        require_images(images, self.smallest_image)
        x = nn.relu(self.stem(images, train=train))
        x = max_pool(x, window=3, strides=2, padding=1)
        maps = run_stages(self, self.stages(), x, train=train)
        if self.preactivation:
            maps[-1] = nn.relu(self.norm(maps[-1], use_running_average=not train))
        return maps

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = self.stage_maps(images, train=train)[-1]
        return self.head(global_avg_pool(x).astype(float))
