"""Initial weights, drawn as in the frameworks that published results come from."""

from collections.abc import Callable
from typing import Any

import jax

Initialiser = Callable[[jax.Array, tuple[int, ...], Any], jax.Array]

glorot_uniform: Initialiser = jax.nn.initializers.glorot_uniform()
"""Glorot & Bengio 2010; the default of Keras for dense, convolutional and recurrent kernels."""

he_normal: Initialiser = jax.nn.initializers.he_normal()
"""He et al. 2015; for convolutions before a ReLU."""

orthogonal: Initialiser = jax.nn.initializers.orthogonal()
"""Saxe et al. 2014; the default of Keras for recurrent matrices."""


def small_normal(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Normal with standard deviation 0.02, as for the embeddings of GPT-2."""
    return 0.02 * jax.random.normal(key, shape, dtype)


def small_uniform(key: jax.Array, shape: tuple[int, ...], dtype: Any) -> jax.Array:
    """Uniform in [-0.05, 0.05]; the default of Keras for embeddings."""
    return jax.random.uniform(key, shape, dtype, -0.05, 0.05)
