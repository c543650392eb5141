"""First weights, as the frameworks that the published results come from draw them."""

from collections.abc import Callable
from typing import Any

import jax

Initialiser = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]

glorot_uniform: Initialiser = jax.nn.initializers.glorot_uniform()
"""Glorot & Bengio 2010, the default of Keras for dense, convolutional and recurrent kernels."""

he_normal: Initialiser = jax.nn.initializers.he_normal()
"""He et al. 2015, for convolutions in front of ReLU."""

orthogonal: Initialiser = jax.nn.initializers.orthogonal()
"""Saxe et al. 2014, the default of Keras for the matrix from state to state."""


def small_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Normal with deviation 0.02, as GPT-2's embeddings."""
    return 0.02 * jax.random.normal(key, shape, dtype)


def small_uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniform in [-0.05, 0.05], the default of Keras for embeddings."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)
