"""Numbers with units, at the edges where they change."""

import math

import pytest

from fairyring.records.round_record import LostInNoise, Means, RoundRecord
from fairyring.report import units
from tests.rounds.round_records import record_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0"),
        (5.81, "5.81"),
        (0.23117, "0.2312"),
        (1234.56, "1,235"),
        (1e-5, "1e-05"),
        (-2.5, "-2.5"),
        (math.nan, "not finite"),
    ],
)
def test_number(value: float, text: str) -> None:
    assert units.number(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 B"),
        (812, "812 B"),
        (1024, "1.0 KiB"),
        (222_848, "218 KiB"),
        (2**20, "1.0 MiB"),
        (5 * 2**40, "5.0 TiB"),
        (2**51, "2048 TiB"),
    ],
)
def test_size(value: float, text: str) -> None:
    assert units.size(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 s"),
        (0.0031, "3.1 ms"),
        (41.23, "41.2 s"),
        (59.97, "1 min 00 s"),
        (185, "3 min 05 s"),
        (7800, "2 h 10 min"),
        (math.inf, "unknown"),
    ],
)
def test_duration(value: float, text: str) -> None:
    assert units.duration(value) == text


def test_share_and_metric() -> None:
    assert units.metric("accuracy", 0.9463) == "94.6 %"
    assert units.metric("loss", 0.9463) == "0.9463"
    assert units.metric("accuracy", math.nan) == "not finite"
    assert units.metric("metrics.accuracy", 0.9463) == "94.6 %"
    assert units.metric("accuracy", None) == "–"
    assert units.count(1, "client") == "1 client"
    assert units.count(1437, "client") == "1,437 clients"


@pytest.mark.parametrize(
    ("record", "name", "text", "with_noise"),
    [
        (record_of(loss=2.5), "loss", "2.5", "2.5"),
        (
            record_of(metrics={"accuracy": 1.0}, noise_std=Means(0.1, {"accuracy": 0.3})),
            "metrics.accuracy",
            "100.0 %",
            "100.0 % (noise ± 30.0 %)",
        ),
        (
            record_of(
                metrics={"accuracy": 1.0},
                noise_std=Means(0.1, {"accuracy": 1.265}),
                lost_in_noise=LostInNoise(False, {"accuracy": True}),
            ),
            "metrics.accuracy",
            "lost in noise (± 126.5 %)",
            "lost in noise (± 126.5 %)",
        ),
        (
            record_of(
                loss=2.0,
                noise_std=Means(6.32, {"accuracy": 0.3}),
                lost_in_noise=LostInNoise(True, {"accuracy": False}),
            ),
            "loss",
            "lost in noise (± 6.32)",
            "lost in noise (± 6.32)",
        ),
        (record_of(loss=2.0, lost_in_noise=LostInNoise(False, {"loss": True})), "loss", "2", "2"),
        (record_of(loss=math.nan, clients=0), "loss", "–", "–"),
        (record_of(), "metrics.accuracy", "–", "–"),
        (record_of(loss=math.nan), "loss", "not finite", "not finite"),
    ],
)
def test_a_mean_of_training_is_shown_with_the_noise_in_it(
    record: RoundRecord, name: str, text: str, with_noise: str
) -> None:
    assert units.mean(record, name) == text
    assert units.mean(record, name, noise=True) == with_noise


@pytest.mark.parametrize(
    ("facts", "fate"),
    [
        ({}, "did not count"),
        ({"privacy": None, "secure_sum": None}, "did not count"),
        ({"privacy": {"unit": "device"}, "secure_sum": None}, "counted as zeros"),
        ({"privacy": {"unit": "example"}, "secure_sum": None}, "did not count"),
        ({"privacy": {"unit": "example"}, "secure_sum": "ideal"}, "counted as zeros"),
        ({"privacy": None, "secure_sum": "protocol"}, "counted as zeros"),
    ],
)
def test_what_became_of_updates_that_were_not_finite(facts: dict[str, object], fate: str) -> None:
    assert units.not_finite(2, facts) == f"2 updates held a number that is not finite, and {fate}"
