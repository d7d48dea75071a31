"""GoogLeNet (Szegedy et al. 2014, arXiv:1409.4842, table 1).

layer            output        paper                          torchvision
conv1            112x112x64    7x7, stride 2                  same, batch normalisation throughout
pool1            56x56         3x3 max, stride 2, LRN         no LRN
conv2            56x56x192     1x1 to 64, 3x3, LRN            no LRN
pool2            28x28         3x3 max, stride 2
3a, 3b           28x28x480     Inception                      3x3 in place of each 5x5
pool3            14x14         3x3 max, stride 2
4a ... 4e        14x14x832     Inception
pool4            7x7           3x3 max, stride 2              2x2 max, stride 2
5a, 5b           7x7x1024      Inception
head             1x1           7x7 average (the whole map), dropout 0.4, dense
aux1, aux2       after 4a, 4d  5x5 average, stride 3; 1x1, 128; dense 1024; dropout 0.7; dense

All pooling is in ceil mode.
"""

from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.layers.conv_norm import require_images
from cnnjax.layers.dropout import Dropout
from cnnjax.layers.inception import ConvRelu, Inception, Widths
from cnnjax.layers.layer import Initialization, Layer
from cnnjax.ops.norm import local_response_norm
from cnnjax.ops.pool import adaptive_avg_pool, avg_pool, global_avg_pool, max_pool

INCEPTION = {  # table 1: #1x1, #3x3 reduce, #3x3, #5x5 reduce, #5x5, pool proj
    "3a": Widths(64, 96, 128, 16, 32, 32),
    "3b": Widths(128, 128, 192, 32, 96, 64),
    "4a": Widths(192, 96, 208, 16, 48, 64),
    "4b": Widths(160, 112, 224, 24, 64, 64),
    "4c": Widths(128, 128, 256, 24, 64, 64),
    "4d": Widths(112, 144, 288, 32, 64, 64),
    "4e": Widths(256, 160, 320, 32, 128, 128),
    "5a": Widths(256, 160, 320, 32, 128, 128),
    "5b": Widths(384, 192, 384, 48, 128, 128),
}
_TORCHVISION = {
    "kernel5": 3,
    "norm": "batch",
    "last_pool": 2,
    "dropout": 0.2,
    "initialization": "he_fan_in",
}
_AUX_COUNT = "section 5's heads and table 1's widths by arithmetic"
_PAPER_COUNT = "table 1's widths by arithmetic; its rounded rows add up to 6.8M"
_LIBRARY = (
    "torchvision's: 3x3 in place of 5x5, batch normalisation, a 2x2 last pooling, dropout 0.2; its"
    " published weights want inputs in -1 to 1 (transform_input); He's initialisation"
)
_GLOROT = "Glorot's initialisation: the paper names none"
_AUX = "with both auxiliary heads (in the paper while training)"


@register_models(
    paper="Szegedy et al. 2014, arXiv:1409.4842",
    year=2014,
    input_shape=(224, 224, 3),
    variants=(
        Variant(
            "googlenet",
            {},
            6_998_552,
            _PAPER_COUNT,
            macs=1.5e9,
            macs_source="section 1",
            departs=_GLOROT,
        ),
        Variant(
            "googlenet_aux", {"aux": True}, 13_378_280, _AUX_COUNT, departs=f"{_AUX}; {_GLOROT}"
        ),
        Variant(
            "googlenet_torchvision",
            _TORCHVISION,
            6_624_904,
            "torchvision's documentation",
            macs=1.50e9,
            macs_source="torchvision's documentation",
            departs=_LIBRARY,
        ),
        Variant(
            "googlenet_torchvision_aux",
            {**_TORCHVISION, "aux": True},
            13_004_888,
            "torchvision's layers with aux_logits, by arithmetic",
            departs=f"{_LIBRARY}; {_AUX}",
        ),
    ),
)
class GoogLeNet(Layer, kw_only=True):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, num_classes].

    With `aux` it has the two auxiliary heads: they run while training only, and their logits are
    sown into collection "auxiliary", where the task adds their loss. They need images of 193x193
    or more (an average over 5x5 of a map at stride 16 that is then 13x13 or more); torchvision's
    average adaptively to 4x4 and take any.

    aux: whether it has the two auxiliary heads.
    kernel5: of the branch that the paper gives 5x5; torchvision's has 3x3.
    norm: local response normalisation as in the paper, or batch normalisation.
    last_pool: window of the last max pooling.
    dropout: probability before the classifier.
    aux_dropout: probability in the auxiliary heads.
    """

    num_classes: int = 1000
    aux: bool = False
    kernel5: Literal[3, 5] = 5
    norm: Literal["lrn", "batch"] = "lrn"
    last_pool: Literal[2, 3] = 3
    dropout: float = 0.4
    aux_dropout: float = 0.7
    initialization: Initialization = "glorot"

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least; the paper's auxiliary heads need more."""
        return 193 if self.aux and self.norm == "lrn" else 32

    def setup(self):
        self.conv1 = self._unit(64, 7, 2)
        self.conv2_reduce, self.conv2 = self._unit(64, 1), self._unit(192, 3)
        for name, widths in INCEPTION.items():
            inception = Inception(widths, self.kernel5, self.norm, **self.numerics)
            setattr(self, f"inception{name}", inception)
        if self.aux:
            for name in ("aux1", "aux2"):
                setattr(self, f"{name}_conv", self._unit(128, 1))
                setattr(self, f"{name}_dense", self.dense(1024))
                setattr(self, f"{name}_head", self.dense(self.num_classes))
            self.aux_drop = Dropout(self.aux_dropout)
        self.head = self.dense(self.num_classes)
        self.drop = Dropout(self.dropout)

    def feature_maps(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> dict[int, Float[Array, "n _ _ _"]]:
        """conv1, conv2, 3b, 4e and 5b by their stride: 2, 4, 8, 16, 32."""
        require_images(images, self.smallest_image)
        maps = {2: self.conv1(images, train=train)}
        x = self._normalize(max_pool(maps[2], 3, 2, ceil_mode=True))
        maps[4] = self.conv2(self.conv2_reduce(x, train=train), train=train)
        x = max_pool(self._normalize(maps[4]), 3, 2, ceil_mode=True)
        x = self.inception3a(x, train=train)
        maps[8] = self.inception3b(x, train=train)
        x = self.inception4a(max_pool(maps[8], 3, 2, ceil_mode=True), train=train)
        self._auxiliary(x, "aux1", train)
        x = self.inception4b(x, train=train)
        x = self.inception4c(x, train=train)
        x = self.inception4d(x, train=train)
        self._auxiliary(x, "aux2", train)
        maps[16] = self.inception4e(x, train=train)
        x = max_pool(maps[16], self.last_pool, 2, ceil_mode=True)
        maps[32] = self.inception5b(self.inception5a(x, train=train), train=train)
        return maps

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        x = global_avg_pool(self.feature_maps(images, train=train)[32])
        return self.head(self.drop(x, deterministic=not train)).astype(float)

    def _auxiliary(self, x: Float[Array, "n h w c"], name: str, train: bool) -> None:
        """Sow the logits of an auxiliary head, while training."""
        if not self.aux or not (train or self.is_initializing()):
            return
        batch = self.norm == "batch"
        x = adaptive_avg_pool(x, 4) if batch else avg_pool(x, 5, 3)
        x = getattr(self, f"{name}_conv")(x, train=train)
        x = nn.relu(getattr(self, f"{name}_dense")(x.reshape(x.shape[0], -1)))
        x = self.aux_drop(x, deterministic=not train)
        logits = getattr(self, f"{name}_head")(x).astype(float)
        if not self.is_initializing():
            self.sow("auxiliary", name, logits)

    def _normalize(self, x: Float[Array, "n h w c"]) -> Float[Array, "n h w c"]:
        return local_response_norm(x) if self.norm == "lrn" else x

    def _unit(self, features: int, kernel_size: int, strides: int = 1) -> ConvRelu:
        return ConvRelu(features, kernel_size, strides, self.norm, **self.numerics)
