"""Named streams: the bits that they have had, and other ones by another salt."""

import jax
import numpy as np

from cnnjax.core.random import STREAMS, stream_keys
from cnnjax.core.recipe import Streams


def data(keys):
    return {name: jax.random.key_data(key).tolist() for name, key in keys.items()}


def test_no_salt_changes_nothing_and_another_one_every_stream():
    plain, one, two = (data(stream_keys(3, Streams(salt=salt))) for salt in (0, 1, 2))
    assert plain == data(stream_keys(3))
    for name in STREAMS:
        assert len({tuple(keys[name]) for keys in (plain, one, two)}) == 3


def test_a_salted_stream_is_not_what_is_drawn_from_the_plain_one():
    """A small number would be: split(key)[1] is fold_in(key, 1)."""
    salted = data(stream_keys(0, Streams(salt=1)))
    for name, key in stream_keys(0).items():
        drawn = [jax.random.fold_in(key, n) for n in range(20)] + list(jax.random.split(key, 4))
        assert salted[name] not in [jax.random.key_data(k).tolist() for k in drawn]


def test_own_seeds_are_salted_too():
    fixed = Streams(init=7), Streams(init=7, salt=1)
    first, second = (np.asarray(jax.random.key_data(stream_keys(0, s)["init"])) for s in fixed)
    assert (first != second).any()
