"""Named random streams: one key per purpose, derived by `fold_in`, never by adding numbers.

With seed + index, seed 0 at index 1 equals seed 1 at index 0, and replicates share shifted noise.
"""

import zlib
from dataclasses import asdict

from cnnjax.core.errors import Refused
from cnnjax.core.recipe import Streams, check_seed

STREAMS = ("init", "order", "augment", "dropout")


def stream_keys(seed: int, streams: Streams | None = None) -> dict:
    """A jax key for each name in `STREAMS`.

    Args:
      seed: the run's seed, 0 to 2^32 - 1.
      streams: own seeds of single streams; the others take `seed`.

    Raises:
      Refused: the seed is none: jax would take it modulo 2^32 for another one's.
    """
    import jax

    try:
        check_seed(seed)
    except ValueError as error:
        raise Refused(str(error)) from None
    own = asdict(streams or Streams())
    keys = {
        name: jax.random.fold_in(
            jax.random.key(seed if own[name] is None else own[name]), zlib.crc32(name.encode())
        )
        for name in STREAMS
    }
    if not own["salt"]:
        return keys
    # Hashed, as what is folded in later are small numbers: an epoch, an example's index.
    salt = zlib.crc32(f"salt {own['salt']}".encode())
    return {name: jax.random.fold_in(key, salt) for name, key in keys.items()}
