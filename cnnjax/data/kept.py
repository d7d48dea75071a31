"""Arrays that take long to make, kept in the user's cache folder."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from cnnjax.core.arrays import pack, unpack
from cnnjax.core.files import atomic_write
from cnnjax.core.folders import user_cache


def kept_arrays(
    name: str,
    make: Callable[[], dict[str, np.ndarray]],
    doing: str = "",
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, np.ndarray]:
    """The arrays of that name; made, and kept, where they are not there or damaged.

    Args:
      name: stands for their content: of another content it is another.
      doing: what `say` is told before they are made.
    """
    path = kept_path(name)
    try:
        return unpack(path.read_bytes())
    except FileNotFoundError:
        say(doing)
    except (OSError, ValueError) as error:
        say(f"{path}: {error}; {doing}")
    arrays = make()
    try:
        atomic_write(path, pack(arrays))
    except OSError as error:  # a full disk costs the cache, not the run
        say(f"{path}: {error.strerror}; next time again")
    return arrays


def kept_path(name: str) -> Path:
    return user_cache("data") / f"{name}.arrays"
