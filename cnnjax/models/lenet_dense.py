"""The dense network that LeNet-5 is compared with (LeCun et al. 1998, section III.C.6): an image
is a row of numbers, and where they stood in it is lost.

layer   units   parameters at 28x28
hidden1 300     784 x 300 + 300
hidden2 100     300 x 100 + 100
output  10      100 x 10 + 10
"""

from jaxtyping import Array, Float

from cnnjax.core.architectures import Variant, register_models
from cnnjax.core.errors import Refused
from cnnjax.layers.conv_norm import require_images
from cnnjax.layers.layer import Initialization, Layer
from cnnjax.ops.activation import ACTIVATIONS, Activation


@register_models(
    paper="LeCun et al. 1998, Proc. IEEE 86(11)",
    year=1998,
    input_shape=(28, 28, 1),
    variants=(
        Variant(
            "lenet_300_100",
            {},
            266_610,
            "section III.C.6, the sum over its layers",
            departs="a softmax over ten outputs; trained by SGD",
        ),
    ),
)
class LeNetDense(Layer, kw_only=True):
    """Float images [n, h, w, c] of any size to float32 logits [n, num_classes].

    features: units of each hidden layer.
    width: multiplies them.
    activation: of the hidden layers; scaled_tanh is 1.7159 tanh(2/3 x).

    Raises:
      Refused: a hidden layer is left without a unit.
    """

    features: tuple[int, ...] = (300, 100)
    width: float = 1.0
    num_classes: int = 10
    activation: Activation = "scaled_tanh"
    initialization: Initialization = "lecun1998"

    def __post_init__(self):
        if not all(0.5 < units * self.width < 2**31 for units in self.features):
            raise Refused(f"width {self.width} leaves no unit; it multiplies {self.features}")
        super().__post_init__()

    @property
    def smallest_image(self) -> int:
        """Height and width in pixels, at least."""
        return 1

    def setup(self):
        for index, units in enumerate(self.features, start=1):
            setattr(self, f"hidden{index}", self.dense(round(units * self.width)))
        self.head = self.dense(self.num_classes)

    def __call__(
        self, images: Float[Array, "n h w c"], *, train: bool
    ) -> Float[Array, "n {self.num_classes}"]:
        require_images(images, self.smallest_image)
        x = images.reshape(images.shape[0], -1)
        for index in range(1, len(self.features) + 1):
            x = ACTIVATIONS[self.activation](getattr(self, f"hidden{index}")(x))
        return self.head(x).astype(float)
