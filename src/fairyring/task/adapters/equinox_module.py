"""A model as an Equinox module."""

import inspect
from typing import Any

import jax

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task.adapters._factory import build
from fairyring.task.adapters._parameters import computing, dtypes_of, require_parameters, travelling
from fairyring.task.adapters._statistics import refuse_batch_normalisation, refuse_state
from fairyring.task.model import Model


def from_equinox(module: Any, *, traced: bool = False) -> Model:
    """A model from an Equinox module, or from a factory of one.

    A module takes **one** example, `module(x, key=key)`, as Equinox's own layers do, and is vmapped over the
    batch with a key for each example; `key` is left out where its `__call__` has none. A module with a class
    attribute `batched = True` (as in our zoo) takes a batch `[B, ...]` and one key instead.

    Parameters are the module's floating-point arrays, and keep its structure: `eqx.combine(params, module)`
    is the trained module. Everything else (integers, tables, functions) is a constant of the model.
    With a key every `inference` flag is set to False, without one to True.

    Args:
        module: an instance, whose own parameters are then the start of every run (`init` ignores its key), or
            `factory(key) -> module`, such as a class or `functools.partial(eqx.nn.MLP, 784, 10, 200, 2)`.
        traced: find the structure by tracing the factory, and compile `init` as one program, instead of
            building a module here: quicker, but only for a factory whose modules keep all their arrays,
            floating-point ones, in fields (no table closed over by a function).

    Raises:
        MissingExtra: Equinox is not installed.
        ModelError: no module, one that cannot be called, one without floating-point parameters, or one with
            batch normalisation or other state.
    """
    try:
        import equinox as eqx
    except ImportError as error:
        raise MissingExtra("equinox", extra="equinox", purpose="models as Equinox modules") from error

    made = isinstance(module, eqx.Module)
    traced = traced and not made

    def fresh(key: jax.Array) -> Any:
        return build(module, "key", key)

    def trainable(leaf: Any) -> bool:
        return isinstance(leaf, jax.ShapeDtypeStruct) if traced else eqx.is_inexact_array(leaf)

    if made:
        template = module
    elif traced:
        template = eqx.filter_eval_shape(fresh, jax.random.key(0))
    else:
        template = _refuse_stateful(fresh(jax.random.key(0)))
    _require_module(template)
    params, constants = eqx.partition(template, trainable)
    require_parameters(params)
    dtypes = dtypes_of(params)
    structure = jax.tree.structure(params)
    takes_key = _takes_key(template)
    batched = getattr(template, "batched", False) is True

    def init(key: jax.Array) -> Any:
        if made:
            return travelling(params)
        leaves = jax.tree.leaves(eqx.filter(fresh(key), eqx.is_inexact_array))
        # Static fields of two builds may differ (a lambda made anew); one structure keeps trees compatible.
        return travelling(jax.tree.unflatten(structure, leaves))

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        whole = eqx.combine(computing(params, dtypes), constants)
        whole = eqx.nn.inference_mode(whole, value=key is None)
        if not takes_key:
            return whole(x) if batched else jax.vmap(whole)(x)
        if batched:
            return whole(x, key=key)
        if key is None:
            return jax.vmap(lambda one: whole(one, key=None))(x)
        return jax.vmap(lambda one, k: whole(one, key=k))(x, jax.random.split(key, x.shape[0]))

    return Model(jax.jit(init) if traced else init, apply)


def _refuse_stateful(built: Any) -> Any:
    """`eqx.nn.make_with_state` gives (module, state) instead of a module."""
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
