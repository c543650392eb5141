"""What all adapters ask of parameters: some are there, they are real, they travel as float32."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import ModelError


def require_parameters(params: Any) -> None:
    """Refuse a pytree of parameters that cannot be trained.

    Raises:
        ModelError: there is nothing to train, or a leaf is not real floating point.
    """
    leaves = jax.tree_util.tree_leaves_with_path(params)
    for path, leaf in leaves:
        if not hasattr(leaf, "dtype") or not jnp.issubdtype(leaf.dtype, jnp.floating):
            raise ModelError(
                f"parameter {jax.tree_util.keystr(path) or '(the whole tree)'}",
                given=getattr(leaf, "dtype", type(leaf).__name__),
                expected="an array of real floating-point numbers",
                do="Keep constants and integers out of the parameters; train complex numbers as two reals.",
            )
    if not any(leaf.size for _, leaf in leaves):
        raise ModelError(
            "model",
            given="no floating-point parameters",
            expected="at least one array that can be trained",
            do="Check that layers are attributes of the model (not hidden in closures) and are initialised.",
        )


def travelling(params: Any) -> Any:
    """Float32 copies of `params`: what is trained, sent and averaged.

    Copies, so that an engine that reuses (donates) their memory never destroys the caller's own arrays.
    """
    return jax.tree.map(lambda leaf: jnp.array(leaf, dtype=jnp.float32, copy=True), params)


def computing(params: Any, dtypes: Any) -> Any:
    """`params` back in the types the model computes in; `dtypes` is a tree of the same structure.

    A model in bfloat16 so keeps float32 masters, which small updates do not vanish in.
    """
    return jax.tree.map(lambda leaf, dtype: leaf.astype(dtype), params, dtypes)


def dtypes_of(params: Any) -> Any:
    """The type of each leaf, as JAX holds it (float64 is float32 unless x64 is enabled)."""
    return jax.tree.map(lambda leaf: jax.dtypes.canonicalize_dtype(leaf.dtype), params)
