"""A model as a Flax NNX module."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task.adapters._factory import build
from fairyring.task.adapters._parameters import as_compute_dtypes, as_float32, dtypes_of, require_parameters
from fairyring.task.adapters._statistics import refuse_batch_normalisation
from fairyring.task.model import Model


def from_nnx(module: Any) -> Model:
    """Adapt a Flax NNX module, or a factory of modules.

    The module takes a batch, `module(x)` with `x` `[B, ...]`. The parameters are its floating-point `nnx.Param`
    variables, as nested dicts; `nnx.update(module, params)` writes trained ones back. Every other variable is a
    constant: what a call writes to it is discarded. With a key the module is in `train()` mode, and each of
    its random streams is seeded from the key; without one it is in `eval()` mode.

    Args:
        module: an instance, or `factory(rngs) -> module`, such as the module's class. Every run starts from the
            parameters of an instance (`init` ignores its key).

    Raises:
        MissingExtra: Flax is not installed.
        ModelError: `module` is not a module, cannot be called, has no floating-point parameters, or has batch
            normalisation.
    """
    try:
        from flax import nnx
    except ImportError as error:
        raise MissingExtra("flax", extra="flax", purpose="models as Flax NNX modules") from error

    def trained(path: Any, variable: Any) -> bool:
        return isinstance(variable, nnx.Param) and jnp.issubdtype(variable.get_value().dtype, jnp.inexact)

    is_instance = isinstance(module, nnx.Module)
    template = module if is_instance else build(module, "rngs", nnx.Rngs(jax.random.key(0)))
    _require_module(template)
    graph, variables, streams, constants = nnx.split(template, trained, nnx.RngKey, ...)
    params = nnx.to_pure_dict(variables)
    require_parameters(params)
    dtypes = dtypes_of(params)
    start = as_float32(params)

    def init(key: jax.Array) -> Any:
        if is_instance:
            return as_float32(start)
        fresh = build(module, "rngs", nnx.Rngs(key))
        return as_float32(nnx.to_pure_dict(nnx.state(fresh, trained)))

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        own = jax.tree.map(lambda leaf: leaf, variables)
        nnx.replace_by_pure_dict(own, as_compute_dtypes(params, dtypes))
        # Unflattening makes new Variables, so what a call writes to them does not outlive the call.
        fixed = jax.tree.map(lambda leaf: leaf, constants)
        model = nnx.merge(graph, own, _seeded(streams, key), fixed)
        model.eval() if key is None else model.train()
        return model(x)

    return Model(init, apply)


def _seeded(streams: Any, key: jax.Array | None) -> Any:
    leaves, structure = jax.tree.flatten(streams)
    if key is not None:
        leaves = [_like(leaf, jax.random.fold_in(key, i)) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


def _like(leaf: jax.Array, key: jax.Array) -> jax.Array:
    """`key`, split into as many keys as the stream holds, in the form of the stream (typed keys or raw words)."""
    if jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key):
        return key if leaf.shape == () else jax.random.split(key, leaf.shape)
    keys = key if leaf.ndim == 1 else jax.random.split(key, leaf.shape[:-1])
    return jax.random.key_data(keys)


def _require_module(template: Any) -> None:
    from flax import nnx

    if not isinstance(template, nnx.Module):
        raise ModelError(
            "NNX model",
            given=type(template).__name__,
            expected="an nnx.Module, or a factory rngs -> nnx.Module",
            do="Pass the module itself, or a function of one nnx.Rngs that returns it.",
        )
    for _, node in nnx.iter_graph(template):
        if isinstance(node, nnx.BatchNorm | nnx.BatchStat):
            refuse_batch_normalisation(f"nnx.{type(node).__name__}")
    if not callable(template):
        raise ModelError(
            f"NNX module {type(template).__name__}",
            given="no __call__",
            expected="a module that is called with a batch",
            do="Define __call__(self, x).",
        )
