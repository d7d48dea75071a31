"""A network as a user writes it: flax's own layers, which know nothing of placements."""

from flax import linen as nn

from cnnjax.layers.dropout import Dropout


class Own(nn.Module):
    """One convolution, normalised over the batch, one that drops."""

    num_classes: int = 10
    dtype: str = "float32"

    @nn.compact
    def __call__(self, images, *, train):
        x = nn.Conv(8, (3, 3), use_bias=False, dtype=self.dtype)(images)
        x = nn.relu(nn.BatchNorm(use_running_average=not train, dtype=self.dtype)(x))
        x = Dropout(0.5)(x.mean((1, 2)), deterministic=not train)
        return nn.Dense(self.num_classes)(x.astype("float32"))
