"""These tests compile many small programs once each: compile them quickly rather than well."""

import jax
import pytest


@pytest.fixture(autouse=True)
def compiled_without_optimisation():
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
