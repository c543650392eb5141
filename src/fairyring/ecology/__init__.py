"""Worlds of evolving learners: bacteria that evolve their brains, or the rewards from which they learn.

There is no objective function: bacteria that find food divide, the others die. `evolve` runs worlds, `assay` measures in a lab
what evolved, `coculture` puts populations together, `sweep` compares settings. The room stands on `core` and `statistics`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.ecology.history import Evolution as Evolution
    from fairyring.ecology.history import evolve as evolve
    from fairyring.ecology.history import load as load
    from fairyring.ecology.history import save as save
    from fairyring.ecology.lab import Assay as Assay
    from fairyring.ecology.lab import Assays as Assays
    from fairyring.ecology.lab import Coculture as Coculture
    from fairyring.ecology.lab import Population as Population
    from fairyring.ecology.lab import assay as assay
    from fairyring.ecology.lab import closed as closed
    from fairyring.ecology.lab import coculture as coculture
    from fairyring.ecology.lab import colonies as colonies
    from fairyring.ecology.lab import event_rates as event_rates
    from fairyring.ecology.results import Sweep as Sweep
    from fairyring.ecology.results import SweepRun as SweepRun
    from fairyring.ecology.results import read_sweep as read_sweep
    from fairyring.ecology.results import write_csv as write_csv
    from fairyring.ecology.studies import study_coculture as study_coculture
    from fairyring.ecology.studies import study_non_gradient as study_non_gradient
    from fairyring.ecology.studies import study_world1 as study_world1
    from fairyring.ecology.studies import study_world2 as study_world2
    from fairyring.ecology.studies import sweep as sweep
    from fairyring.ecology.watch import LivingWorld as LivingWorld
    from fairyring.ecology.world import Event as Event
    from fairyring.ecology.world import Happened as Happened
    from fairyring.ecology.world import Policy as Policy
    from fairyring.ecology.world import Sense as Sense
    from fairyring.ecology.world import Sensed as Sensed
    from fairyring.ecology.world import World1 as World1
    from fairyring.ecology.world import World2 as World2
    from fairyring.ecology.world import q_learning as q_learning
    from fairyring.ecology.world import tables as tables
    from fairyring.ecology.zoo import Exhibit as Exhibit
    from fairyring.ecology.zoo import exhibit as exhibit
    from fairyring.ecology.zoo import make_zoo as make_zoo

_NAMES = {
    "history": (
        "Evolution",
        "evolve",
        "load",
        "save",
    ),
    "lab": (
        "Assay",
        "Assays",
        "Coculture",
        "Population",
        "assay",
        "closed",
        "coculture",
        "colonies",
        "event_rates",
    ),
    "results": (
        "Sweep",
        "SweepRun",
        "read_sweep",
        "write_csv",
    ),
    "studies": (
        "study_coculture",
        "study_non_gradient",
        "study_world1",
        "study_world2",
        "sweep",
    ),
    "watch": ("LivingWorld",),
    "world": (
        "Event",
        "Happened",
        "Policy",
        "Sense",
        "Sensed",
        "World1",
        "World2",
        "q_learning",
        "tables",
    ),
    "zoo": (
        "Exhibit",
        "exhibit",
        "make_zoo",
    ),
}
_ROOM_OF = {name: room for room, names in _NAMES.items() for name in names}

__all__ = sorted(_ROOM_OF)  # pyright: ignore[reportUnsupportedDunderAll] the names above


def __getattr__(name: str) -> Any:
    if name not in _ROOM_OF:
        raise AttributeError(f"module 'fairyring.ecology' has no attribute {name!r}")
    value = getattr(import_module(f"fairyring.ecology.{_ROOM_OF[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
