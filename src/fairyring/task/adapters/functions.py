"""A model as two functions, `init` and `apply`."""

import inspect
from collections.abc import Callable
from typing import Any

import jax

from fairyring.core.errors import ModelError
from fairyring.core.keys import key_shape
from fairyring.task.adapters._parameters import as_compute_dtypes, as_float32, dtypes_of, require_parameters
from fairyring.task.model import Model

_KEY_NAMES = ("key", "rng", "prng_key", "rng_key")


def from_functions(init: Callable[..., Any], apply: Callable[..., Any]) -> Model:
    """Adapt two functions: `init(key) -> params`, and `apply(params, x)` or `apply(params, x, key)`.

    Args:
        init: returns the parameters, a pytree of floating-point arrays. It is traced once here (shapes only).
        apply: computes the outputs for a batch `x` `[B, ...]`. A third parameter without a default, or one called
            `key`, `rng`, `prng_key` or `rng_key`, receives the key: a typed JAX key in training, None in
            evaluation. No other parameter with a default is passed.

    Raises:
        ModelError: the functions have other parameters, or the model's parameters are not floating-point arrays.
    """
    if len(_required(init, "init")) > 1:
        raise ModelError(
            "init",
            given=f"parameters {inspect.signature(init)}",
            expected="one parameter, the key",
            do="Wrap it, as in (lambda key: init(key, example), apply).",
        )
    call = _with_key(apply)
    shapes = jax.eval_shape(init, key_shape())
    require_parameters(shapes)
    dtypes = dtypes_of(shapes)
    return Model(
        init=lambda key: as_float32(init(key)),
        apply=lambda params, x, key=None: call(as_compute_dtypes(params, dtypes), x, key),
    )


def _with_key(apply: Callable[..., Any]) -> Callable[[Any, Any, Any], Any]:
    positional = _required(apply, "apply")
    parameters = inspect.signature(apply).parameters
    named = next((name for name in _KEY_NAMES if name in parameters), None)
    if len(positional) > 3:
        raise ModelError(
            "apply",
            given=f"parameters {inspect.signature(apply)}",
            expected="(params, x) or (params, x, key)",
            do="Bind the other parameters first, with functools.partial or a lambda.",
        )
    if named is not None and parameters[named].kind is inspect.Parameter.KEYWORD_ONLY:
        return lambda params, x, key: apply(params, x, **{named: key})
    if len(positional) == 3:
        return lambda params, x, key: apply(params, x, key)
    if named is not None:
        return lambda params, x, key: apply(params, x, **{named: key})
    return lambda params, x, key: apply(params, x)


def _required(function: Callable[..., Any], name: str) -> list[str]:
    """Positional parameters without a default."""
    try:
        parameters = inspect.signature(function).parameters.values()
    except (TypeError, ValueError) as error:
        raise ModelError(
            name,
            given=f"{type(function).__name__} whose parameters cannot be read",
            expected="a Python function",
            do="Wrap it in a lambda.",
        ) from error
    kinds = (inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD)
    return [p.name for p in parameters if p.kind in kinds and p.default is inspect.Parameter.empty]
