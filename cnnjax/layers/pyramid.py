"""Maps of every stride with the meaning of the last one (Lin et al. 2017, arXiv:1612.03144,
figure 3): each map through a 1x1 convolution, the coarser one, twice as large, added, and a 3x3
convolution.

extra   behind the coarsest map
none    nothing
pool    one more: every other place of it (R-CNN's, section 4.1)
p5      two more, by 3x3 convolutions at stride 2, the first from it (torchvision's RetinaNet)
c5      the same, the first from the backbone's coarsest map (Lin et al. 2017, arXiv:1708.02002)
"""

from collections.abc import Mapping
from typing import Literal

from flax import linen as nn
from jaxtyping import Array, Float

from cnnjax.layers.conv_norm import Conv
from cnnjax.layers.layer import Layer
from cnnjax.ops.resize import resize_nearest

Extra = Literal["none", "pool", "p5", "c5"]


class FeaturePyramid(Layer):
    """Maps of a backbone by stride to maps of `features` channels by stride, finest first."""

    strides: tuple[int, ...]  # of the backbone's maps, finest first
    features: int = 256
    extra: Extra = "none"

    @property
    def all_strides(self) -> tuple[int, ...]:
        """Of what comes out."""
        more = {"none": 0, "pool": 1, "p5": 2, "c5": 2}[self.extra]
        return (*self.strides, *(self.strides[-1] * 2**index for index in range(1, more + 1)))

    @nn.compact
    def __call__(
        self, maps: Mapping[int, Float[Array, "n _ _ _"]]
    ) -> dict[int, Float[Array, "n _ _ {self.features}"]]:
        found: dict[int, Array] = {}
        above = None
        for stride in reversed(self.strides):
            x = self._conv(1, 1, f"lateral{stride}")(maps[stride])
            above = x if above is None else x + resize_nearest(above, (x.shape[1], x.shape[2]))
            found[stride] = self._conv(3, 1, f"output{stride}")(above)
        last = self.strides[-1]
        if self.extra == "pool":
            found[2 * last] = found[last][:, ::2, ::2]
        elif self.extra != "none":
            x = maps[last] if self.extra == "c5" else found[last]
            found[2 * last] = self._conv(3, 2, f"output{2 * last}")(x)
            x = nn.relu(found[2 * last])
            found[4 * last] = self._conv(3, 2, f"output{4 * last}")(x)
        return {stride: found[stride] for stride in self.all_strides}

    def _conv(self, kernel_size: int, strides: int, name: str) -> Conv:
        return Conv(self.features, kernel_size, strides, use_bias=True, **self.numerics, name=name)
