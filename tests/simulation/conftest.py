import jax
import pytest


@pytest.fixture
def no_cache():
    """Programs are compiled, not found in the session's cache."""
    folder = jax.config.jax_compilation_cache_dir
    jax.config.update("jax_compilation_cache_dir", None)
    yield
    jax.config.update("jax_compilation_cache_dir", folder)
