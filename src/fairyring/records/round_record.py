"""A round's record: a line of `metrics.jsonl`, and what a run hands to whoever watches it."""

import math
from collections.abc import Iterable, Iterator, Mapping
from typing import Annotated, Any

import msgspec
import numpy as np
from msgspec import Meta

from fairyring.core.reading import NotJson, read_json

Count = Annotated[int, Meta(ge=0, le=(1 << 63) - 1)]
Round = Annotated[int, Meta(ge=1, le=(1 << 63) - 1)]


_LESS_IS_BETTER = ("loss", "error", "mse", "mae", "rmse", "perplexity")


class Means(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A number for the loss and one for each of the task's metrics.

    Attributes:
        loss: of the task.
        metrics: by the name the task gives each metric.
    """

    loss: float
    metrics: dict[str, float]

    def columns(self) -> dict[str, float]:
        """`loss` and `metrics.NAME` for each metric."""
        return dict(_flat(self, ""))

    def __str__(self) -> str:
        """In a few words, such as `loss 0.164, accuracy 0.961`."""
        return ", ".join(f"{name} {value:.4g}" for name, value in {"loss": self.loss, **self.metrics}.items())


def higher_is_better(metric: str, declared: Mapping[str, bool] | None = None) -> bool:
    """Whether a larger value of a metric is the better one.

    Args:
        metric: its name, ``"loss"``, or its column: ``"metrics.NAME"``.
        declared: what is known of metrics, by name; the name decides of any other.
    """
    declared = declared or {}
    for name in (metric, metric.removeprefix("metrics.")):
        if name in declared:
            return declared[name]
    return not metric.lower().endswith(_LESS_IS_BETTER)


class LostInNoise(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Which means of a round say nothing, because the noise in them is as wide as the range of the value.

    Attributes:
        loss: whether the mean loss does.
        metrics: the same of each metric, by name.
    """

    loss: bool
    metrics: dict[str, bool]

    def columns(self) -> dict[str, bool]:
        """`loss` and `metrics.NAME` for each metric."""
        return dict(_flat(self, ""))


class Aborted(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Why a round had no sum.

    Attributes:
        stage: of the secure sum, at which the server gave up.
        reason: in words.
    """

    stage: str
    reason: str


class RoundRecord(msgspec.Struct, frozen=True, omit_defaults=True, forbid_unknown_fields=True, kw_only=True):
    """What is recorded of one round.

    The task's metrics have a mapping of their own, so a metric may have any name. JSON has no NaN: a mean that is not finite is
    `null` in `metrics.jsonl`, and NaN again once it is read. Fields that do not apply to a run are None, or 0, and are left out
    of the file.

    Attributes:
        round: its number; the first is 1.
        loss: mean training loss of the clients in the sum, weighted as the plan weights clients. Of a private plan it is noisy,
            and cut to the range of the loss. NaN where there was no sum.
        metrics: the same for each metric of the task, by name. That of a metric with weights of its own (see `fr.Metric`) is a mean
            by these weights, over the examples of all clients.
        clients: how many are in the sum; 0 where there was none.
        sampled: how many were asked.
        dropped: how many of those vanished before they reported.
        nonfinite: how many updates held a number that is not finite, as far as the server can know.
        examples: how many examples the clients that stayed hold.
        bytes_up: sent by all clients together.
        bytes_down: received by all clients together.
        seconds: the round took.
        aborted: why there was no sum; None where there was one.
        canaries: of an audit, that were in the sum.
        noise_std: standard deviation of the noise in `loss` and in each of `metrics`, before they were cut to their range; to first
            order where a metric has weights of its own, and NaN where noise has left no weight. None without noise, and where clients add noise to every local step.
        lost_in_noise: which of those means say nothing; None where all of them say something.
        at_bound: names of the loss and the metrics of a sum of whole numbers that were probably cut to their bounds, with commas: the true
            means may be larger. Of the loss that is said from half of its bound on. None elsewhere, and of private plans, which say what they cut.
        clipped: share of the updates that the plan's `clip` cut, of those that were finite. None without a clip, and where the plan promises
            privacy or ends in a secure sum: there nobody may learn it.
        update_norm: median of the norms of these updates before they were clipped, in the unit of the clip's norm.
        snr: length of the mean update over length of the noise in it, estimated from the noisy update.
        noise: standard deviation of the noise in each coordinate of the mean update.
        epsilon: what all rounds so far have spent; recorded with every evaluation.
        empirical_epsilon: what an audit's canaries gave away, at the end of a run.
        empirical_epsilon_lower: a lower confidence bound on that.
        test: loss and metrics over all examples of the test population, in rounds that are followed by an evaluation.
        tests: the same on each of several test populations, by name; the first of them is `test`.
    """

    round: Round
    loss: float
    metrics: dict[str, float]
    clients: Count
    sampled: Count
    dropped: Count
    nonfinite: Count
    examples: Count
    bytes_up: Count
    bytes_down: Count
    seconds: float
    aborted: Aborted | None = None
    canaries: Count = 0
    noise_std: Means | None = None
    lost_in_noise: LostInNoise | None = None
    at_bound: str | None = None
    clipped: float | None = None
    update_norm: float | None = None
    snr: float | None = None
    noise: float | None = None
    epsilon: float | None = None
    empirical_epsilon: float | None = None
    empirical_epsilon_lower: float | None = None
    test: Means | None = None
    tests: dict[str, Means] | None = None

    @property
    def training(self) -> Means:
        """The means of training."""
        return Means(self.loss, self.metrics)

    def line(self) -> bytes:
        """The record as JSON, as `metrics.jsonl` has it but for the end of the line."""
        return msgspec.json.encode(self)

    def columns(self) -> dict[str, Any]:
        """All that is recorded, under one name each: fields of fields and metrics are named with dots, as `test.metrics.accuracy`."""
        return dict(_flat(self, ""))


def read_record(line: bytes) -> RoundRecord:
    """A record from its line.

    Raises:
        NotJson: it is none.
    """
    value = read_json(line, dict[str, Any])
    tests = value.get("tests")
    for part in (
        value,
        value.get("noise_std"),
        value.get("test"),
        *(tests.values() if isinstance(tests, dict) else ()),
    ):
        if isinstance(part, dict):
            _restore_nan(part)
    try:
        return msgspec.convert(value, RoundRecord)
    except (msgspec.ValidationError, OverflowError) as error:
        raise NotJson(f"{error}") from error


def table(records: Iterable[RoundRecord]) -> dict[str, np.ndarray]:
    """Records as columns, an array `[rounds]` each, such as a data frame is made of: `pandas.DataFrame(table(records))`.

    Columns are named as in `RoundRecord.columns`, in the order of its fields. What was not recorded of a round is NaN, False
    or an empty string.
    """
    rows = [record.columns() for record in records]
    names = dict.fromkeys(name for row in rows for name in row)
    place = {name: i for i, name in enumerate(RoundRecord.__struct_fields__)}
    return {
        name: _column([row.get(name) for row in rows])
        for name in sorted(names, key=lambda name: place[name.split(".")[0]])
    }


def _column(values: list[Any]) -> np.ndarray:
    present = [value for value in values if value is not None]
    if all(isinstance(value, bool) for value in present):
        return np.array([bool(value) for value in values], bool)
    if all(isinstance(value, str) for value in present):
        return np.array([value or "" for value in values], str)
    integers = len(present) == len(values) and all(isinstance(value, int) for value in present)
    return np.array([math.nan if v is None else v for v in values], np.int64 if integers else np.float64)


def _flat(value: Any, path: str) -> Iterator[tuple[str, Any]]:
    if isinstance(value, msgspec.Struct):
        value = {name: getattr(value, name) for name in value.__struct_fields__}
    if isinstance(value, dict):
        for name, inner in value.items():
            yield from _flat(inner, f"{path}.{name}" if path else name)
    elif value is not None:
        yield path, value


def _restore_nan(means: dict[str, Any]) -> None:
    """Put NaN where a mean that was not finite has been written as null."""
    if "loss" in means and means["loss"] is None:
        means["loss"] = math.nan
    metrics = means.get("metrics")
    if isinstance(metrics, dict):
        means["metrics"] = {name: math.nan if value is None else value for name, value in metrics.items()}
