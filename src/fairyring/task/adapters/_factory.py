"""Calling a factory of modules with its one argument."""

import inspect
from collections.abc import Callable
from functools import partial
from typing import Any


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


def build(factory: Callable[..., Any], name: str, value: Any) -> Any:
    """`factory(name=value)` if it has a parameter of that name, otherwise `factory(value)`."""
    parameter = parameters_of(factory).get(name)
    if parameter is not None and parameter.kind is not inspect.Parameter.POSITIONAL_ONLY:
        return factory(**{name: value})
    return factory(value)
