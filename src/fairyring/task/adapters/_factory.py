"""Calling a factory of modules with its one argument."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any

from fairyring.core.errors import ModelError


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a factory by name; empty if Python cannot inspect it."""
    function = factory.func if isinstance(factory, partial) else factory
    if isinstance(function, type):
        # A metaclass, such as NNX's, hides the parameters of the class; its __init__ has them.
        args, keywords = (factory.args, factory.keywords) if isinstance(factory, partial) else ((), {})
        factory = partial(function.__init__, None, *args, **keywords)
    try:
        return dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return {}


def is_required(parameter: inspect.Parameter) -> bool:
    """Whether a call must give this parameter."""
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds


def build(factory: Callable[..., Any], name: str, value: Any) -> Any:
    """`factory(name=value)` if it has a parameter of that name, otherwise `factory(value)`.

    Raises:
        ModelError: it must be given more than that.
    """
    parameters = parameters_of(factory)
    missing = [own for own, parameter in parameters.items() if is_required(parameter) and own != name]
    if len(missing) > (name not in parameters):
        called = getattr(factory, "__name__", "the factory")
        given = {"key": "jax.random.key(0)", "rngs": "nnx.Rngs(0)"}[name]
        listed = ", ".join(missing)
        raise ModelError(
            "model",
            given=f"{called} without {listed}",
            expected=f"an instance, or a factory with {name!r} as its only parameter",
            do=f"Pass {called}({listed}, {name}={given}), or functools.partial({called}, {listed}).",
        )
    parameter = parameters.get(name)
    if parameter is not None and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return factory(**{name: value})
    return factory(value)
