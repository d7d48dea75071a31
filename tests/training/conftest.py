"""Fixtures of the tests of training."""

import jax
import pytest

from cnnjax.training.feed import memory_programs


@pytest.fixture
def float64():
    """jax's 64-bit mode, in which these networks compute in float64; no command runs in it."""
    jax.config.update("jax_enable_x64", True)
    memory_programs.cache_clear()
    yield
    jax.config.update("jax_enable_x64", False)
    memory_programs.cache_clear()
