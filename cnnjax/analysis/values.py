"""What is known of an array in a traced computation."""

from dataclasses import dataclass

import numpy as np

from cnnjax.analysis.constants import Constant
from cnnjax.analysis.receptive_field import Sight


@dataclass(frozen=True)
class Value:
    """An array in the computation.

    Attributes:
      sight: what its elements see of the images; None where it does not depend on them.
      trained: whether it depends on parameters.
      module: the path of the module whose parameter it is, or comes from alone.
      constant: its elements, where it depends on nothing.
    """

    sight: Sight = None
    trained: bool = False
    module: str | None = None
    constant: Constant | None = None

    @property
    def elements(self) -> np.ndarray | None:
        return None if self.constant is None else self.constant.value()

    @property
    def is_data(self) -> bool:
        return self.trained or self.sight is not None
