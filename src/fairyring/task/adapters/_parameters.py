"""What all adapters require of parameters: there is at least one, they are real numbers, and they are sent as float32."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError


def require_parameters(params: Any) -> None:
    """Raise an error if a pytree of parameters cannot be trained.

    Raises:
        ModelError: there is no parameter, or a leaf is not an array of real floating-point numbers.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ModelError(
                f"parameter {jax.tree_util.keystr(path) or '(the whole tree)'}",
                given=getattr(leaf, "dtype", type(leaf).__name__),
                expected="an array of real floating-point numbers",
                do="Keep constants and integers out of the parameters; store a complex number as two real ones.",
            )
    if not any(leaf.size for _, leaf in leaves):
        raise ModelError(
            "model",
            given="no floating-point parameters",
            expected="at least one array that can be trained",
            do="Check that layers are attributes of the model (not hidden in closures) and are initialised.",
        )


def as_float32(params: Any) -> Any:
    """Float32 copies of `params`: what is trained, sent and averaged.

    They are copies, so that an engine that donates their memory does not destroy the caller's arrays.
    """
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=jnp.float32, copy=True), params)


def as_compute_dtypes(params: Any, dtypes: Any) -> Any:
    """`params` in the types that the model computes in; `dtypes` is a tree of the same structure.

    So a model in bfloat16 has float32 master weights, in which small updates are not lost.
    """
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), params, dtypes)


def dtypes_of(params: Any) -> Any:
    """The type of each leaf in JAX (float64 is float32 unless x64 is enabled)."""
    return jax.tree.map(lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype), params)
