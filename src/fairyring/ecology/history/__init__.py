"""Worlds over time: run on the cores, recorded step by step and birth by birth, stored as one file."""

from fairyring.ecology.history.evolution import Evolution, evolve, load, resume
from fairyring.ecology.history.lineage import NOBODY, Lineage
from fairyring.ecology.history.replay import Difference, Replay, differences, replay
from fairyring.ecology.history.run_file import custom_parts, fingerprint, make_folder, save, settings_of
from fairyring.ecology.history.running import (
    Worker,
    WorldRun,
    addressed,
    advance,
    compiled,
    whole_number,
    world_key,
)
from fairyring.ecology.history.summary import LATE, Overrun, WorldSummary, overruns, summaries

__all__ = [
    "LATE",
    "NOBODY",
    "Difference",
    "Evolution",
    "Lineage",
    "Overrun",
    "Replay",
    "Worker",
    "WorldRun",
    "WorldSummary",
    "addressed",
    "advance",
    "compiled",
    "custom_parts",
    "differences",
    "evolve",
    "fingerprint",
    "load",
    "make_folder",
    "overruns",
    "replay",
    "resume",
    "save",
    "settings_of",
    "summaries",
    "whole_number",
    "world_key",
]
