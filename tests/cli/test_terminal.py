"""Output about a private run: no number that is only noise, and epsilon with its assumptions."""

import io
import math
import re
from pathlib import Path
from typing import Any

import msgspec
import pytest
from rich.console import Console

from fairyring.cli._terminal import summarise
from fairyring.records.round_record import Aborted, LostInNoise, Means, RoundRecord
from fairyring.rounds.progress import LiveProgress
from tests.rounds.round_records import record_of

LOST = record_of(
    metrics={"accuracy": 1.0},
    noise_std=Means(6.32, {"accuracy": 0.3}),
    lost_in_noise=LostInNoise(True, {"accuracy": False}),
)
PROMISE: dict[str, Any] = {
    "spent": 3.2,
    "epsilon": 8.0,
    "delta": 1e-5,
    "statement": "epsilon 3.2, accounted by hand.",
}


def written(record: RoundRecord, **facts: Any) -> tuple[str, str]:
    """The line of progress, and the summary."""
    console = Console(file=io.StringIO(), width=200)
    with LiveProgress(console, 1) as progress:
        progress(record)
    line = console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]
    console = Console(file=io.StringIO(), width=200)
    summarise(console, [record], facts, Path("runs/x"), None)
    return line, console.file.getvalue()  # pyright: ignore[reportAttributeAccessIssue]


def test_what_is_lost_in_noise_is_no_number() -> None:
    line, summary = written(LOST)
    assert "loss lost in noise (± 6.32)  accuracy 100.0 %" in line
    assert "loss lost in noise (± 6.32), accuracy 100.0 % (noise ± 30.0 %)" in summary
    line, summary = written(record_of(metrics={"accuracy": 1.0}))
    assert "loss 2  accuracy 100.0 %" in line
    assert "loss 2, accuracy 100.0 %" in summary


def test_epsilon_is_of_the_unit_it_was_promised_to() -> None:
    summary = written(LOST, privacy=PROMISE | {"unit": "example"})[1]
    assert "spent at delta 1e-05, for every example" in summary
    assert "device" not in summary


@pytest.mark.parametrize("why", [None, "somebody knows the noise"])
def test_epsilon_is_never_half_a_sentence(why: str | None) -> None:
    summary = written(LOST, privacy=PROMISE | {"why_nothing": why})[1]
    assert "epsilon 3.2 of 8 spent at delta 1e-05, for every device" in summary
    assert ("accounted by hand" in summary) == (why is None)
    assert ("nothing is promised: somebody knows the noise" in summary) == (why is not None)


def test_epsilon_is_of_the_unit_that_was_promised_something() -> None:
    summary = written(LOST, privacy=PROMISE | {"unit": "example"})[1]
    assert "spent at delta 1e-05, for every example" in summary
    assert "every device" not in summary


def test_updates_that_are_not_finite_are_left_out_only_where_that_may_be_seen() -> None:
    bad = msgspec.structs.replace(LOST, nonfinite=2)
    assert re.search(
        "not finite +2 updates held a number that is not finite, and did not count", written(bad)[1]
    )
    private = written(bad, privacy=PROMISE)[1]
    assert re.search("not finite +2 updates held a number that is not finite, and counted as zeros", private)
    assert "did not count" not in private


def test_a_run_whose_rounds_had_no_sum_has_no_loss_and_is_not_called_divergent() -> None:
    aborted = record_of(
        loss=math.nan, metrics={"accuracy": math.nan}, clients=0, aborted=Aborted("masking", "too few")
    )
    summary = written(aborted, secure_sum=None)[1]
    assert "no round had a sum; the model is the initial one" in summary
    assert "not finite" not in summary
