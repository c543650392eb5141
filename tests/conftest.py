"""Shared by all tests."""

import gc
import tempfile

import jax
import pytest

# Runs that tests of several rooms look at.
pytest_plugins = ["tests.simulation.kept_runs"]


@pytest.fixture(scope="session", autouse=True)
def _compile_once():
    """A plan that several tests run is compiled once a session."""
    with tempfile.TemporaryDirectory() as folder:
        jax.config.update("jax_compilation_cache_dir", folder)
        jax.config.update("jax_persistent_cache_min_compile_time_secs", 0.3)
        yield
        jax.config.update("jax_compilation_cache_dir", None)


@pytest.fixture(scope="module", autouse=True)
def _let_go_of_programs():
    """A compiled program takes dozens of a process's memory maps, of which Linux allows 65,530: thousands do not fit."""
    yield
    jax.clear_caches()
    gc.collect()


@pytest.fixture
def no_cache():
    """Programs are compiled, not found in the session's cache."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
