"""Calling a factory of modules with the one thing it needs."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


def parameters_of(factory: Callable[..., Any]) -> dict[str, inspect.Parameter]:
    """The parameters of a factory by name; empty where Python cannot tell."""
    target = factory.func if isinstance(factory, partial) else factory
    if isinstance(target, type):
        # A metaclass (NNX has one) hides the parameters of the class; its __init__ tells.
        given = (factory.args, factory.keywords) if isinstance(factory, partial) else ((), {})
        factory = partial(target.__init__, None, *given[0], **given[1])
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
