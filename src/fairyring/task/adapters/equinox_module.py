"""A model as an Equinox module."""

import inspect
from typing import Any

import jax

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.core.keys import key_shape
from fairyring.core.program import shared_jit
from fairyring.task.adapters._factory import build
from fairyring.task.adapters._parameters import as_compute_dtypes, as_float32, dtypes_of, require_parameters
from fairyring.task.adapters._statistics import refuse_batch_normalisation, refuse_state
from fairyring.task.model import Model


def from_equinox(module: Any, *, traced: bool = False) -> Model:
    """Adapt an Equinox module, or a factory of modules.

    A module takes **one** example, `module(x, key=key)`, like Equinox's own layers. It is vmapped over the batch
    with a key for each example; no key is passed if its `__call__` has no such parameter. A module with the class
    attribute `batched = True` (as in the zoo) takes a batch `[B, ...]` and one key instead.

    The parameters are the module's floating-point arrays. They keep its structure: `eqx.combine(params, module)`
    is the trained module. Everything else (integers, tables, functions) is a constant of the model.
    With a key every `inference` flag is set to False, and without one to True.

    Args:
        module: an instance, or `factory(key) -> module`, such as a class or
            `functools.partial(eqx.nn.MLP, 784, 10, 200, 2)`. Every run starts from the parameters of an instance
            (`init` ignores its key).
        traced: find the structure by tracing the factory, and compile `init` as one program, instead of building
            a module here. This is quicker, but requires that the modules keep all their arrays in fields and that
            these are floating-point (no table captured by a function).

    Raises:
        MissingExtra: Equinox is not installed.
        ModelError: `module` is not a module, cannot be called, has no floating-point parameters, or has batch
            normalisation or other state.
    """
    try:
        import equinox as eqx
    except ImportError as error:
        raise MissingExtra("equinox", extra="equinox", purpose="models as Equinox modules") from error

    is_instance = isinstance(module, eqx.Module)
    traced = traced and not is_instance

    def build_with(key: jax.Array) -> Any:
        return build(module, "key", key)

    def trainable(leaf: Any) -> bool:
        return isinstance(leaf, jax.ShapeDtypeStruct) if traced else eqx.is_inexact_array(leaf)

    if is_instance:
        template = module
    elif traced:
        template = eqx.filter_eval_shape(build_with, key_shape())
    else:
        template = _refuse_stateful(build_with(jax.random.key(0)))
    _require_module(template)
    params, constants = eqx.partition(template, trainable)
    require_parameters(params)
    dtypes = dtypes_of(params)
    structure = jax.tree.structure(params)
    takes_key = _takes_key(template)
    batched = getattr(template, "batched", False) is True

    def init(key: jax.Array) -> Any:
        if is_instance:
            return as_float32(params)
        leaves = jax.tree.leaves(eqx.filter(build_with(key), eqx.is_inexact_array))
        # Static fields of two modules may differ (a new lambda each time); with one structure the trees stay compatible.
        return as_float32(jax.tree.unflatten(structure, leaves))

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        model = eqx.combine(as_compute_dtypes(params, dtypes), constants)
        model = eqx.nn.inference_mode(model, value=key is None)
        if not takes_key:
            return model(x) if batched else jax.vmap(model)(x)
        if batched:
            return model(x, key=key)
        if key is None:
            return jax.vmap(lambda one: model(one, key=None))(x)
        return jax.vmap(lambda one, k: model(one, key=k))(x, jax.random.split(key, x.shape[0]))

    return Model(shared_jit(init) if traced else init, apply)


def _refuse_stateful(built: Any) -> Any:
    """Raise an error for the pair (module, state) that `eqx.nn.make_with_state` returns."""
    import equinox as eqx

    if isinstance(built, tuple) and any(isinstance(part, eqx.nn.State) for part in built):
        _require_module(built[0])
        refuse_state("eqx.nn.State")
    return built


def _require_module(template: Any) -> None:
    import equinox as eqx

    if not isinstance(template, eqx.Module):
        raise ModelError(
            "Equinox model",
            given=type(template).__name__,
            expected="an eqx.Module, or a factory key -> eqx.Module",
            do="Pass the module itself, or a function of one key that returns it.",
        )
    stateful = (eqx.nn.BatchNorm, eqx.nn.StateIndex)
    for node in jax.tree.leaves(template, is_leaf=lambda node: isinstance(node, stateful)):
        if isinstance(node, eqx.nn.BatchNorm):
            refuse_batch_normalisation("eqx.nn.BatchNorm")
        if isinstance(node, eqx.nn.StateIndex):
            refuse_state("eqx.nn.StateIndex")
    if not callable(template):
        raise ModelError(
            f"Equinox module {type(template).__name__}",
            given="no __call__",
            expected="a module that is called with one example",
            do="Define __call__(self, x, *, key=None).",
        )


def _takes_key(template: Any) -> bool:
    parameters = inspect.signature(template.__call__).parameters
    return "key" in parameters or any(p.kind is inspect.Parameter.VAR_KEYWORD for p in parameters.values())
