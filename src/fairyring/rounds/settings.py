"""What a coordinator is told of its run: what it is, for the record, and how it is run."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from fairyring.rounds.auditing import RunAudit
from fairyring.rounds.keeping import Keeping
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.timetable import Timetable


@dataclass(frozen=True)
class RunDescription:
    """What is known of a run before its first round.

    Attributes:
        header: what `run.json` is written from; see `fairyring.rounds.header`. The coordinator adds to it.
        context: what the run's privacy statement rests on.
        population: the population in numbers, for `population.json`.
    """

    header: dict[str, Any]
    context: PrivacyContext
    population: Mapping[str, Any]


@dataclass(frozen=True)
class RunSettings:
    """How a run is run.

    Attributes:
        timetable: when it evaluates, saves and stops.
        entropy: 32 secret bytes that all noise is made from; None for fresh ones.
        audit: an audit that goes along; None for none.
        keep_states: keep what clients remember when a private run is over, too.
        keeping: which models are kept beside the last; None for none, or for those that a run which is resumed was to keep.
    """

    timetable: Timetable
    entropy: bytes | None = None
    audit: RunAudit | None = None
    keep_states: bool = False
    keeping: Keeping | None = None
