"""What the dashboard is given of a round says nothing that is only noise."""

import math

from fairyring.records.round_record import Aborted, LostInNoise, Means
from fairyring.service.pages import RoundRow
from fairyring.service.snapshots import _round
from tests.rounds.round_records import record_of


def test_what_is_lost_in_noise_is_no_number() -> None:
    shown = _round(
        record_of(
            metrics={"accuracy": 1.0, "loss": 0.5},
            lost_in_noise=LostInNoise(True, {"accuracy": False, "loss": True}),
        )
    )
    assert isinstance(shown, RoundRow)
    assert shown.loss is None
    assert shown.metrics == {"accuracy": 1.0, "loss": None}
    assert _round(record_of(metrics={"accuracy": 1.0})).loss == record_of(metrics={}).loss


def test_a_round_without_a_sum_says_why_and_has_no_numbers() -> None:
    shown = _round(
        record_of(
            loss=math.nan,
            metrics={"accuracy": math.nan},
            clients=0,
            aborted=Aborted("masking", "too few devices"),
            test=Means(math.inf, {"accuracy": 0.5}),
        )
    )
    assert (shown.loss, shown.metrics, shown.test) == (
        None,
        {"accuracy": None},
        {"loss": None, "accuracy": 0.5},
    )
    assert shown.aborted == "masking: too few devices"
