"""Calling a factory of modules with the one thing it needs."""

import inspect
from collections.abc import Callable
from typing import Any


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a factory by name; empty where Python cannot tell."""
    try:
        return dict(inspect.signature(factory).parameters)
    except (TypeError, ValueError):
        return {}


def build(factory: Callable[..., Any], name: str, value: Any) -> Any:
    """`factory(name=value)` where it has a parameter of that name, `factory(value)` otherwise."""
    parameter = parameters_of(factory).get(name)
    if parameter is not None and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return factory(**{name: value})
    return factory(value)
