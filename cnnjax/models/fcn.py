"""Fully convolutional networks (Long et al. 2015, arXiv:1411.4038): a classifier whose dense layers
are convolutions, so that it has a class at every place, and its answer made larger.

fcn32s    vgg16; 7x7 to 4096, 1x1 to 4096, dropout; 1x1 to the classes; 32 times as large
fcn16s    twice as large, the classes from stage 4's pooling added; 16 times as large
fcn8s     twice as large again, those from stage 3's added; 8 times as large

fcn_resnet50    resnet50 with strides 1 and dilations 2 and 4 in its last two stages (torchvision);
                3x3 to 512, normalised, dropout, 1x1 to the classes; 8 times as large
"""

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.backbone import OnBackbone
from cnnjax.layers.conv_norm import Conv, ConvNorm
from cnnjax.layers.dropout import Dropout
from cnnjax.ops.pool import max_pool
from cnnjax.ops.resize import resize_bilinear

_SUM = "the sum over its layers: 21 classes, upsampling without parameters"
_DEPARTS = (
    "maps keep their size, where the paper pads the image by 100 pixels and crops; upsampling is"
    " bilinear and fixed, from where the paper's begins to learn"
)


@register_models(
    task="segmentation",
    paper="Long et al. 2015, arXiv:1411.4038",
    year=2015,
    input_shape=(224, 224, 3),
    variants=(
        Variant("fcn32s", {"skips": ()}, 134_346_581, _SUM, departs=_DEPARTS),
        Variant("fcn16s", {"skips": (16,)}, 134_357_354, _SUM, departs=_DEPARTS),
        Variant("fcn8s", {"skips": (16, 8)}, 134_362_751, _SUM, departs=_DEPARTS),
    ),
)
class FCN(OnBackbone, kw_only=True):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, h, w, num_classes].

    skips: strides of the poolings whose classes are added, coarsest first; behind each map of the
      backbone but the last stands one, as in VGG.
    hidden: channels of the convolutions that were dense layers.
    dropout: probability behind each of them.

    Raises:
      Refused: skips that the backbone does not have, or that do not fall.
    """

    num_classes: int = 21
    backbone: str = "vgg16"
    skips: tuple[int, ...] = ()
    hidden: int = 4096
    dropout: float = 0.5

    def __post_init__(self):
        if list(self.skips) != sorted(set(self.skips), reverse=True) or 1 in self.skips:
            raise Refused(f"skips={list(self.skips)}: falling strides, 2 or more")
        if self.hidden < 1:
            raise Refused(f"hidden={self.hidden}: 1 or more")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 32

    def setup(self):
        self.body = self.make_body()
        self.conv6 = Conv(self.hidden, 7, use_bias=True, **self.numerics)
        self.conv7 = Conv(self.hidden, 1, use_bias=True, **self.numerics)
        self.drop = Dropout(self.dropout)
        self.head = Conv(self.num_classes, 1, use_bias=True, **self.numerics)
        for stride in self.skips:
            setattr(
                self, f"head{stride}", Conv(self.num_classes, 1, use_bias=True, **self.numerics)
            )

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h w {self.num_classes}"]:
        maps = self.feature_maps(images, train=train)
        x = maps[max(maps)]
        for conv in (self.conv6, self.conv7):
            x = self.drop(nn.relu(conv(x)), deterministic=not train)
        x = self.head(x)
        for stride in self.skips:
            if stride not in maps or stride // 2 not in maps or stride == max(maps):
                raise Refused(
                    f"skips={list(self.skips)}: strides of maps of {self.backbone}, falling, not of"
                    f" the first or the last; it has {', '.join(map(str, maps))}"
                )
            pooled = max_pool(maps[stride // 2], 2)  # VGG's maps end before their pooling
            beside = getattr(self, f"head{stride}")(pooled)
            x = resize_bilinear(x, (beside.shape[1], beside.shape[2])) + beside
        return resize_bilinear(x.astype(float), (images.shape[1], images.shape[2]))


@register_models(
    task="segmentation",
    paper="Long et al. 2015, arXiv:1411.4038",
    year=2017,
    input_shape=(520, 520, 3),
    variants=(
        Variant(
            "fcn_resnet50",
            {"backbone_fields": {"output_stride": 8}},
            35_322_218,
            "torchvision's documentation: 21 classes, the auxiliary head included",
            departs="dilated resnet50 (Yu & Koltun 2016): torchvision's fcn_resnet50",
        ),
    ),
)
class FCNResNet(OnBackbone, kw_only=True):
    """Float images [n, h, w, c] of 32x32 pixels or more to float32 logits [n, h, w, num_classes].

    While training the logits of the auxiliary head are sown into collection "auxiliary", where the
    task adds their loss.

    aux: a second head on the third stage's map.
    dropout: probability in each head.
    """

    num_classes: int = 21
    backbone: str = "resnet50"
    aux: bool = True
    dropout: float = 0.1

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 32

    def setup(self):
        self.body = self.make_body()
        if not hasattr(self.body, "stage_maps"):
            raise Refused(
                f"backbone={self.backbone}: a resnet is needed, or another with stage_maps"
            )
        self.drop = Dropout(self.dropout)
        for name, features in self._heads().items():
            setattr(self, f"{name}_conv", ConvNorm(features, **self.numerics))
            setattr(self, name, Conv(self.num_classes, 1, use_bias=True, **self.numerics))

    def _heads(self) -> dict[str, int]:
        """Channels inside each head."""
        return {"head": 512, "aux_head": 256} if self.aux else {"head": 512}

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n h w {self.num_classes}"]:
        maps = self.body.stage_maps(images, train=train)

        def judged(name: str, x: Array) -> Array:
            x = nn.relu(getattr(self, f"{name}_conv")(x, train=train))
            x = getattr(self, name)(self.drop(x, deterministic=not train))
            return resize_bilinear(x.astype(float), (images.shape[1], images.shape[2]))

        if self.aux and (train or self.is_initializing()):
            self.sow("auxiliary", "aux", judged("aux_head", maps[-2]))
        return judged("head", maps[-1])
