"""Records of rounds, made up."""

from typing import Any

from fairyring.records import RoundRecord

COUNTS = dict.fromkeys(
    ("clients", "sampled", "dropped", "nonfinite", "examples", "bytes_up", "bytes_down"), 0
)


def record_of(round: int = 1, **given: Any) -> RoundRecord:
    """A record of a round in which 10 clients took part, but for what is `given`."""
    usual = COUNTS | {"loss": 2.0, "metrics": {}, "seconds": 0.5, "clients": 10, "sampled": 10}
    return RoundRecord(round=round, **(usual | given))
