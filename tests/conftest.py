"""Shared by all tests: two CPU devices, whatever the machine has, so that sharing work among devices is tested."""

import os

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "2")
import tempfile

import jax
import pytest

import fairyring  # noqa: F401  asks JAX for its devices before anything starts it


@pytest.fixture(scope="session", autouse=True)
def _compile_once():
    """A plan that several tests run is compiled once a session."""
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
        yield
        jax.config.update("jax_compilation_cache_dir", None)
