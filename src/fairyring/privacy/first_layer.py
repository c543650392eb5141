"""Reading examples from the change of a model's first dense layer, unit by unit.

The gradient of unit i is a sum over examples k, `db_i = sum_k c_ik` and `dW_i = sum_k c_ik x_k`, where `c_ik` is zero for
an example that does not activate the unit. A unit that only one example activates reveals it exactly, as `dW_i / db_i`,
whoever else is in the sum (Boenisch et al. 2023, "When the curious abandon honesty", section 3; Fowl et al.
2022, "Robbing the fed"). The attacker is not told which units these are, but can see it: their quotients look like examples,
or agree with each other.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy.prior import Prior

_CHANCE = 12.0  # evidence needed to be sure of a reading, beyond the logarithm of the number of units
_TRIES = 640  # largest number of labels for which examples are subtracted from a sum


@dataclass(frozen=True)
class Candidates:
    """Readings, ranked by the attacker's own confidence.

    Attributes:
        examples: float64 `[n, features]`, the most confident first.
        confidence: `[n]`, as log likelihood ratios.
        sure: the attacker is sure of the first so many readings.
    """

    examples: np.ndarray
    confidence: np.ndarray
    sure: int


Signals = Callable[[np.ndarray], np.ndarray]
"""From an example `[features]` to the gradient of the layer's bias at the public model, one row per label: `[classes, units]`."""


def read_first_layer(
    weight_change: np.ndarray,
    bias_change: np.ndarray,
    prior: Prior,
    *,
    noise: float = 0.0,
    signals: Signals | None = None,
) -> Candidates:
    """Readings of single examples from a change that many examples caused.

    Candidates are the quotient of each unit, of all units together, and of units whose quotients agree. They are ranked by
    the evidence that they are one example rather than a mean of several: by the grid of values that examples have, or, if
    there is no grid, by agreement of units. The ranking uses no knowledge of the attacked examples.

    With `signals`, examples that were read with certainty are subtracted from the change. How a known example moves every
    unit is known up to its label and one factor, and what remains may have new units that only one example activates.

    Args:
        weight_change: `[features, units]`. Any common factor cancels; its sign matters to `signals` alone, which takes a
            positive multiple of the gradient: the model before less the model after.
        bias_change: `[units]`.
        prior: how others' examples look.
        noise: standard deviation of the noise in each number of the changes.
        signals: how an example moves each unit; see `Signals`.

    Raises:
        PlanError: the shapes do not match, a change is not finite, or all changes are zero.
    """
    weight, bias = np.asarray(weight_change, np.float64), np.asarray(bias_change, np.float64)
    _check(weight, bias, prior)
    # Rounding to float32 is noise too: of the sums, and of the models whose difference the change is.
    least = 2.0**-24 * max(float(np.abs(weight).max()), float(np.abs(bias).max()))
    sum_of = _Sum(weight.T, bias, np.full(len(bias), max(noise, least)), prior)
    everything = sum_of.together()
    candidates = [everything, *sum_of.candidates()]
    if signals is not None and prior.grid is not None:
        candidates += _peeled(sum_of, signals)
    return _ranked(candidates, prior, sum_of.enough)


@dataclass(frozen=True)
class _Reading:
    example: np.ndarray
    confidence: float
    units: tuple[int, ...]


class _Sum:
    """The remaining change: `weight [units, features]`, `bias [units]`, and the noise in each unit's numbers `[units]`."""

    def __init__(self, weight: np.ndarray, bias: np.ndarray, noise: np.ndarray, prior: Prior) -> None:
        self.weight, self.bias, self.noise, self.prior = weight, bias, noise, prior
        self.enough = _CHANCE + float(np.log(len(bias)))

    def quotients(self, units: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Quotients of units, `[n, features]`, with their errors `[n]`."""
        values = self.weight[units] / self.bias[units, None]
        size = np.sqrt(1.0 + (self.prior.mean**2 + self.prior.variance).mean())
        return values, self.noise[units] / np.abs(self.bias[units]) * size

    def live(self) -> np.ndarray:
        """Units that changed by more than noise explains."""
        return np.flatnonzero(np.abs(self.bias) > 2.0 * self.noise)

    def together(self) -> _Reading:
        """The least-squares reading from all units, shrunk towards the mean in proportion to the noise; with neutral confidence."""
        energy = float(self.bias @ self.bias)
        value = self.weight.T @ self.bias / energy
        error = float(np.mean(self.noise**2)) / energy
        held = self.prior.variance / np.maximum(self.prior.variance + error, 1e-30)
        return _Reading(self.prior.mean + held * (value - self.prior.mean), 0.0, ())

    def candidates(self) -> list[_Reading]:
        """Readings from every unit, and from units that agree."""
        units = self.live()
        if not len(units):
            return []
        values, errors = self.quotients(units)
        confidence = self.prior.evidence(values, errors)
        readings = [
            _Reading(value, float(sure), (int(unit),))
            for value, sure, unit in zip(values, confidence, units, strict=True)
        ]
        return readings + self._agreeing(units, values, errors)

    def _agreeing(self, units: np.ndarray, values: np.ndarray, errors: np.ndarray) -> list[_Reading]:
        """Means over units whose quotients agree within their errors."""
        prior = self.prior
        floor = (prior.tolerance / 3) ** 2
        square = (values**2).sum(axis=1)
        apart = (square[:, None] + square - 2.0 * values @ values.T) / values.shape[1]
        allowed = errors[:, None] ** 2 + errors**2 + 2.0 * floor
        # Errors as wide as the spread of examples agree with everything and show nothing.
        same = (apart < 1.6 * allowed) & (allowed < prior.spread**2 / 4)
        readings, seen = [], set()
        for row in same:
            members = np.flatnonzero(row)
            key = members.tobytes()
            if len(members) < 2 or key in seen:
                continue
            seen.add(key)
            weight = 1.0 / (errors[members] ** 2 + floor)
            value = weight @ values[members] / weight.sum()
            error = float(weight.sum() ** -0.5)
            if prior.grid is not None:
                confidence = float(prior.evidence(value[None], np.array([error]))[0])
            else:
                varied = int((prior.variance > 0).sum())
                confidence = (len(members) - 1) * varied * float(np.log(prior.spread / max(error, 1e-12)))
            readings.append(_Reading(value, confidence, tuple(units[members].tolist())))
        return readings

    def sure(self) -> dict[bytes, tuple[np.ndarray, np.ndarray]]:
        """Examples read with certainty, on the grid, each with the units that only it activates."""
        units = self.live()
        if not len(units):
            return {}
        values, errors = self.quotients(units)
        sure = self.prior.evidence(values, errors) > self.enough
        groups: dict[bytes, list[int]] = {}
        examples = self.prior.snapped(values[sure])
        for unit, example in zip(units[sure], examples, strict=True):
            groups.setdefault(example.tobytes(), []).append(int(unit))
        return {key: (np.frombuffer(key), np.array(own)) for key, own in groups.items()}

    def without(self, example: np.ndarray, own: np.ndarray, signals: np.ndarray) -> "_Sum | None":
        """The sum without a known example, under the label that explains it best; None if no label does.

        Args:
            example: `[features]`.
            own: units that only it activates.
            signals: how it moves each unit, one row per label, `[classes, units]`.
        """
        best: tuple[tuple[int, float], _Sum] | None = None
        for signal in signals:
            moved = signal[own]
            if (moved == 0.0).any():
                continue
            factor = float(self.bias[own] @ moved / (moved @ moved))
            misfit = float(np.abs(self.bias[own] - factor * moved).max() / np.abs(self.bias[own]).max())
            if factor <= 0.0 or misfit > 0.05:
                continue
            taken = factor * signal
            unsure = np.abs(taken) * float(np.min(self.noise[own] / np.abs(self.bias[own])))
            noise = np.sqrt(self.noise**2 + unsure**2)
            left = _Sum(self.weight - taken[:, None] * example, self.bias - taken, noise, self.prior)
            left.weight[own], left.bias[own] = 0.0, 0.0
            rank = (sum(len(units) for _, units in left.sure().values()), -misfit)
            if best is None or rank > best[0]:
                best = rank, left
        return None if best is None else best[1]


def _peeled(rest: _Sum, signals: Signals) -> list[_Reading]:
    """Readings that appear only after earlier ones are subtracted."""
    known: set[bytes] = set()
    readings = []
    tries = 0
    while tries < _TRIES:
        fresh = {key: value for key, value in rest.sure().items() if key not in known}
        if not fresh:
            break
        # The most certain one first: subtracting an example leaves its error behind.
        key, (example, own) = max(fresh.items(), key=lambda item: len(item[1][1]))
        known.add(key)
        readings.append(_Reading(example, rest.enough, tuple(own.tolist())))
        moved = signals(example)
        tries += len(moved)
        rest = rest.without(example, own, moved) or rest
    return readings


def _ranked(readings: list[_Reading], prior: Prior, enough: float) -> Candidates:
    """Each example once, the most confident first."""
    best: dict[bytes, tuple[float, np.ndarray]] = {}
    for reading in readings:
        on_grid = reading.confidence > 0.0
        example = prior.snapped(reading.example[None])[0] if on_grid else reading.example
        example = np.clip(example, prior.low.min(), prior.high.max())
        key = example.tobytes()
        if key not in best or reading.confidence > best[key][0]:
            best[key] = reading.confidence, example
    ordered = sorted(best.values(), key=lambda item: -item[0])
    confidence = np.array([value for value, _ in ordered])
    return Candidates(
        np.stack([example for _, example in ordered]), confidence, int((confidence >= enough).sum())
    )


def _check(weight: np.ndarray, bias: np.ndarray, prior: Prior) -> None:
    expected = (len(prior.mean), bias.size)
    finite = np.isfinite(weight).all() and np.isfinite(bias).all()
    if bias.ndim != 1 or weight.shape != expected or not finite or not bias.any():
        raise PlanError(
            "change of a dense layer",
            given=f"a weight of shape {weight.shape} and a bias of shape {bias.shape}, "
            f"{'finite' if finite else 'not finite'}, the bias changed in {int(np.count_nonzero(bias))} units",
            expected=f"finite changes {expected} and [units], of some bias above 0",
            do="A unit that did not fire keeps its input; take an update in which one did.",
        )
