"""Worlds of evolving learners: bacteria that evolve their brains, or the rewards they learn from, and meet.

Nobody writes down what is to be optimised: who finds food divides, who does not dies. `evolve` runs worlds, `assay` asks in
a lab what evolved, `jar` puts populations together. The room stands on `core` and `statistics`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from fairyring.ecology.assay import Assay as Assay
    from fairyring.ecology.assay import assay as assay
    from fairyring.ecology.events import Event as Event
    from fairyring.ecology.events import Happened as Happened
    from fairyring.ecology.evolution import Evolution as Evolution
    from fairyring.ecology.evolution import evolve as evolve
    from fairyring.ecology.exhibits import Exhibit as Exhibit
    from fairyring.ecology.exhibits import exhibit as exhibit
    from fairyring.ecology.exhibits import make_zoo as make_zoo
    from fairyring.ecology.jars import Jar as Jar
    from fairyring.ecology.jars import Population as Population
    from fairyring.ecology.jars import jar as jar
    from fairyring.ecology.living import LivingWorld as LivingWorld
    from fairyring.ecology.policies import Policy as Policy
    from fairyring.ecology.policies import q_learning as q_learning
    from fairyring.ecology.policies import tables as tables
    from fairyring.ecology.restarts import closed as closed
    from fairyring.ecology.restarts import colonies as colonies
    from fairyring.ecology.run_file import load as load
    from fairyring.ecology.run_file import save as save
    from fairyring.ecology.senses import Sense as Sense
    from fairyring.ecology.senses import Sensed as Sensed
    from fairyring.ecology.settings import World1 as World1
    from fairyring.ecology.settings import World2 as World2
    from fairyring.ecology.study import study_world1 as study_world1
    from fairyring.ecology.study import study_world2 as study_world2
    from fairyring.ecology.study_jars import study_jars as study_jars
    from fairyring.ecology.study_rotation import study_rotation as study_rotation

_MODULES = {
    "assay": (
        "Assay",
        "assay",
    ),
    "events": (
        "Event",
        "Happened",
    ),
    "evolution": (
        "Evolution",
        "evolve",
    ),
    "exhibits": (
        "Exhibit",
        "exhibit",
        "make_zoo",
    ),
    "jars": (
        "Jar",
        "Population",
        "jar",
    ),
    "living": ("LivingWorld",),
    "policies": (
        "Policy",
        "q_learning",
        "tables",
    ),
    "restarts": (
        "closed",
        "colonies",
    ),
    "run_file": (
        "load",
        "save",
    ),
    "senses": (
        "Sense",
        "Sensed",
    ),
    "settings": (
        "World1",
        "World2",
    ),
    "study": (
        "study_world1",
        "study_world2",
    ),
    "study_jars": ("study_jars",),
    "study_rotation": ("study_rotation",),
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
