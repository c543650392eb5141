"""Worlds that live on: run on the cores, remembered step by step and birth by birth, kept as one file."""

from fairyring.ecology.history.evolution import Evolution, evolve, load
from fairyring.ecology.history.lineage import NOBODY, Lineage
from fairyring.ecology.history.replay import Difference, differences
from fairyring.ecology.history.run_file import fingerprint, kind_of, own, save, settings_of
from fairyring.ecology.history.running import (
    Worker,
    WorldRun,
    addressed,
    advance,
    compiled,
    whole,
    world_key,
)

__all__ = [
    "NOBODY",
    "Difference",
    "Evolution",
    "Lineage",
    "Worker",
    "WorldRun",
    "addressed",
    "advance",
    "compiled",
    "differences",
    "evolve",
    "fingerprint",
    "kind_of",
    "load",
    "own",
    "save",
    "settings_of",
    "whole",
    "world_key",
]
