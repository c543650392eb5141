"""Rounds over HTTP: what a service keeps, whom it admits, and how it drives runs.

Names are imported on first use, so that what watches a service needs no JAX.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.service.options import RunOptions as RunOptions
    from fairyring.service.options import Submission as Submission
    from fairyring.service.runner import Runner as Runner
    from fairyring.service.serving import Service as Service

_MODULE_OF = {
    "RunOptions": "options",
    "Runner": "runner",
    "Service": "serving",
    "Submission": "options",
}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fairyring.service' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.service.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
