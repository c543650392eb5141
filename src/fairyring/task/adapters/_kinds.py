"""Whose class an object's is, without importing the framework."""

import sys
from typing import Any


def is_instance_of(model: Any, package: str, name: str) -> bool:
    """Whether `model` is an instance of a class of a package."""
    found = _class(package, name)
    return found is not None and isinstance(model, found)


def is_class_of(model: Any, package: str, name: str) -> bool:
    """Whether `model` is a class of a package, or derived from one."""
    found = _class(package, name)
    return found is not None and isinstance(model, type) and issubclass(model, found)


def origins(model: Any) -> list[str]:
    """The classes of an object, or of a class: `"package.module.Class"`, the nearest first."""
    kind = model if isinstance(model, type) else type(model)
    return [f"{one.__module__}.{one.__qualname__}" for one in kind.__mro__]


def _class(package: str, name: str) -> type | None:
    """A class, if its package is imported."""
    return getattr(sys.modules.get(package), name, None)
