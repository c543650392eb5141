"""Worlds of evolving learners: bacteria that evolve their brains, or the rewards they learn from, and meet.

Nobody writes down what is to be optimised: who finds food divides, who does not dies. `evolve` runs worlds, `assay` asks in
a lab what evolved, `jar` puts populations together. The room stands on `core` alone.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.ecology.events import Event as Event
    from fairyring.ecology.evolution import Evolution as Evolution
    from fairyring.ecology.evolution import evolve as evolve
    from fairyring.ecology.policies import Policy as Policy
    from fairyring.ecology.policies import q_learning as q_learning
    from fairyring.ecology.policies import tables as tables
    from fairyring.ecology.run_file import load as load
    from fairyring.ecology.run_file import save as save
    from fairyring.ecology.senses import Sense as Sense
    from fairyring.ecology.settings import World1 as World1
    from fairyring.ecology.settings import World2 as World2

_MODULES = {
    "events": ("Event",),
    "evolution": ("Evolution", "evolve"),
    "policies": ("Policy", "q_learning", "tables"),
    "run_file": ("load", "save"),
    "senses": ("Sense",),
    "settings": ("World1", "World2"),
}
_MODULE_OF = {name: module for module, names in _MODULES.items() for name in names}

__all__ = sorted(_MODULE_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _MODULE_OF:
        raise AttributeError(f"module 'fairyring.ecology' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.ecology.{_MODULE_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
