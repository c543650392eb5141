"""What a world is: its settings, senses, events and policies, its state, and its one compiled step."""

from fairyring.ecology.world import events, grid, policies, senses
from fairyring.ecology.world.events import OPTIONAL, STANDARD, Event, Happened
from fairyring.ecology.world.policies import Policy, q_learning, tables
from fairyring.ecology.world.senses import CHANGE, LEVEL, SIGNAL, Sense, Sensed
from fairyring.ecology.world.settings import KINDS, World, World1, World2, kind_of, override
from fairyring.ecology.world.state import (
    AMOUNTS,
    FOUNDING,
    NUMBERS,
    Log,
    State,
    empty,
    founded,
    resized,
    settled,
    snapshot,
)
from fairyring.ecology.world.step import FEW, make_step

__all__ = [
    "AMOUNTS",
    "CHANGE",
    "FEW",
    "FOUNDING",
    "KINDS",
    "LEVEL",
    "NUMBERS",
    "OPTIONAL",
    "SIGNAL",
    "STANDARD",
    "Event",
    "Happened",
    "Log",
    "Policy",
    "Sense",
    "Sensed",
    "State",
    "World",
    "World1",
    "World2",
    "empty",
    "events",
    "founded",
    "grid",
    "kind_of",
    "make_step",
    "override",
    "policies",
    "q_learning",
    "resized",
    "senses",
    "settled",
    "snapshot",
    "tables",
]
