"""How a metric is spread over clients, and whom the model serves worst."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Spread:
    """A metric over the evaluated clients.

    Attributes:
        name: of the metric.
        values: float64 `[clients]`, those with examples and a finite value.
        higher_is_better: whether a larger value is the better one.
        worst: bool `[clients]`, the worst decile: a tenth of them, at least one; ties broken by position.
        worst_mean: mean over the worst decile.
        by_client: mean with every client counting the same.
        by_example: mean with every example counting the same.
        quartiles: 25th, 50th and 75th percentile.
        extremes: of the worst-served and of the best-served client.
        kept: bool, which of all evaluated clients `values` are of.
    """

    name: str
    values: np.ndarray
    higher_is_better: bool
    worst: np.ndarray
    worst_mean: float
    by_client: float
    by_example: float
    quartiles: tuple[float, float, float]
    extremes: tuple[float, float]
    kept: np.ndarray

    @property
    def left_out(self) -> int:
        """Clients without examples or without a finite value."""
        return int((~self.kept).sum())

    @property
    def worst_count(self) -> int:
        return int(self.worst.sum())


def spread(name: str, clients: Mapping[str, np.ndarray], *, higher_is_better: bool) -> Spread | None:
    """The spread of `name`, `loss` or `metrics.accuracy`, over `clients`, the arrays of a run's `clients.safetensors`; None
    without any."""
    values, examples = clients.get(f"test.{name}"), clients.get("test.examples")
    if values is None or examples is None or values.shape != examples.shape:
        return None
    kept = (examples > 0) & np.isfinite(values)
    if not kept.any():
        return None
    shown, weight = values[kept].astype(np.float64), examples[kept].astype(np.float64)
    order = np.argsort(shown if higher_is_better else -shown, kind="stable")
    worst = np.zeros(len(shown), dtype=bool)
    worst[order[: max(1, len(shown) // 10)]] = True
    low, middle, high = (float(q) for q in np.percentile(shown, [25, 50, 75]))
    return Spread(
        name,
        shown,
        higher_is_better,
        worst,
        float(shown[worst].mean()),
        float(shown.mean()),
        float(np.average(shown, weights=weight)),
        (low, middle, high),
        (float(shown[order[0]]), float(shown[order[-1]])),
        kept,
    )


def names(population: Mapping[str, object], clients: int) -> list[str] | None:
    """The names of the clients in `population`, a run's `population.json`; None if they are too many to be named, or not there."""
    given = population.get("ids")
    if not isinstance(given, list) or len(given) != clients or not clients:
        return None
    return [" ".join(str(one).split()) or "–" for one in given]
