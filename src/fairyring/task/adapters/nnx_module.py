"""A model as a Flax NNX module."""

from typing import Any

import jax
import jax.numpy as jnp

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task.adapters._factory import build
from fairyring.task.adapters._parameters import computing, dtypes_of, require_parameters, travelling
from fairyring.task.adapters._statistics import refuse_batch_normalisation
from fairyring.task.model import Model


def from_nnx(module: Any) -> Model:
    """A model from a Flax NNX module, or from a factory of one.

    The module takes a batch, `module(x)` with `x` `[B, ...]`. Parameters are its floating-point `nnx.Param`
    variables, as nested dicts: `nnx.update(module, params)` puts trained ones back. Every other variable is a
    constant: what a call writes to it is forgotten. With a key the module is in `train()` mode and each of
    its random streams is seeded anew from the key; without one it is in `eval()` mode.

    Args:
        module: an instance, whose own parameters are then the start of every run (`init` ignores its key), or
            `factory(rngs) -> module`, such as the module's class.

    Raises:
        MissingExtra: Flax is not installed.
        ModelError: no module, one that cannot be called, one without floating-point parameters, or one with
            batch normalisation.
    """
    try:
        from flax import nnx
    except ImportError as error:
        raise MissingExtra("flax", extra="flax", purpose="models as Flax NNX modules") from error

    def trained(path: Any, variable: Any) -> bool:
        return isinstance(variable, nnx.Param) and jnp.issubdtype(variable.get_value().dtype, jnp.inexact)

    made = isinstance(module, nnx.Module)
    template = module if made else build(module, "rngs", nnx.Rngs(jax.random.key(0)))
    _require_module(template)
    graph, variables, streams, constants = nnx.split(template, trained, nnx.RngKey, ...)
    params = nnx.to_pure_dict(variables)
    require_parameters(params)
    dtypes = dtypes_of(params)
    start = travelling(params)

    def init(key: jax.Array) -> Any:
        if made:
            return travelling(start)
        fresh = build(module, "rngs", nnx.Rngs(key))
        return travelling(nnx.to_pure_dict(nnx.state(fresh, trained)))

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        own = jax.tree.map(lambda leaf: leaf, variables)
        nnx.replace_by_pure_dict(own, computing(params, dtypes))
        # Unflattening makes new Variables: what a call writes to them stays in this call.
        fixed = jax.tree.map(lambda leaf: leaf, constants)
        whole = nnx.merge(graph, own, _seeded(streams, key), fixed)
        whole.eval() if key is None else whole.train()
        return whole(x)

    return Model(init, apply)


def _seeded(streams: Any, key: jax.Array | None) -> Any:
    leaves, structure = jax.tree.flatten(streams)
    if key is not None:
        leaves = [_like(leaf, jax.random.fold_in(key, i)) for i, leaf in enumerate(leaves)]
    return jax.tree.unflatten(structure, leaves)


def _like(leaf: jax.Array, key: jax.Array) -> jax.Array:
    """`key`, or as many keys as the stream holds, in the stream's own form (typed, or raw words)."""
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
