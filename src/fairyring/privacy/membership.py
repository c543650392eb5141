"""Membership inference for whole clients: was this client among those a model learned from?

The likelihood ratio attack (LiRA; Carlini, Chien, Nasr, Song, Terzis and Tramèr 2022, "Membership inference attacks from
first principles"), its online variant, with a client in place of an example. The same plan is run many times, each time with
another random half of the clients. How a client's own examples fare under a model is, by client, nearly normal, with one mean
where the client took part and another where it did not; the attack is the ratio of the two likelihoods. Each run is
attacked with what all others taught.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.statistics import clustered_limit, pairs_above

FALSE_ALARMS = (0.1, 0.01, 0.001)
_LEAST = 1e-12  # of a variance: a client that is never drawn may fare the same in all runs
_SHRUNK_BY = 8  # runs' worth of the variance in and out together, beside that of each


@dataclass(frozen=True)
class Rate:
    """One point of the attack's curve.

    Attributes:
        aimed: false positive rate that was aimed at.
        false, out: non-members taken for members, of how many.
        true, members: members recognised, of how many.

    There is none, and `false` is 0, where there are too few runs for so small a rate.
    """

    aimed: float
    false: int
    out: int
    true: int
    members: int

    @property
    def fpr(self) -> float:
        """False positive rate; NaN where it could not be measured."""
        return self.false / self.out if self.false else math.nan

    @property
    def tpr(self) -> float:
        """True positive rate; NaN where it could not be measured."""
        return self.true / self.members if self.false else math.nan


@dataclass(frozen=True)
class Membership:
    """What membership inference found.

    Attributes:
        scores: logarithm of the likelihood ratio, float64 `[runs, clients]`.
        members: which client took part in which run, bool `[runs, clients]`.
        rounds: of each run.
        auc: probability that a member scores higher than one who is none; 0.5 is chance.
        auc_low, auc_high: a 95 % interval of it, by leaving out one run at a time.
        rates: true positives at false positive rates of 10, 1 and 0.1 %.
        lower: epsilon at `delta` is not below it, with `confidence`, by the rates of true and false positives.
        claimed: what the plan claims to spend of a device in so many rounds; None for a plan that promises nothing to devices.
        delta: of both; 0 for a plan without a budget.
        confidence: of `lower`.
        unit: whom the plan promises something, if anybody.
    """

    scores: np.ndarray
    members: np.ndarray
    rounds: int
    auc: float
    auc_low: float
    auc_high: float
    rates: tuple[Rate, ...]
    lower: float
    claimed: float | None
    delta: float
    confidence: float
    unit: str = "device"

    @property
    def holds(self) -> bool:
        """False if the claim is below what the attack shows."""
        return self.claimed is None or not self.claimed < self.lower

    @property
    def statement(self) -> str:
        """In words."""
        runs, clients = self.members.shape
        told = [
            f"{100 * rate.tpr:.3g} % of the members ({rate.true:,} of {rate.members:,}) at {100 * rate.fpr:.2g} % false alarms "
            f"({rate.false:,} of {rate.out:,})"
            for rate in self.rates
            if rate.false
        ]
        bound = (
            f"Epsilon is not below {self.lower:.3g}" if self.lower > 0 else "Of epsilon this shows nothing"
        )
        words = (
            f"{runs} runs of {self.rounds} rounds, each with half of {clients:,} clients, of whom nobody drops out: who took part is told "
            f"with an AUC of {self.auc:.3f} (95 % interval {self.auc_low:.3f} to {self.auc_high:.3f}; chance is 0.5). "
            f"Recognised: {'; '.join(told) or 'too few runs to say'}. "
            f"{bound}, with {100 * self.confidence:.6g} % confidence"
        )
        if self.claimed is None and self.unit == "example":
            return f"{words}; what this plan claims is of one example, and less of a client that has many."
        if self.claimed is None:
            return f"{words}; of a client with all its examples this plan claims none."
        return f"{words}; {self.claimed:.3g} at delta {self.delta:.3g} is claimed."

    def roc(self, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """The curve: false and true positive rates, float64 `[<= points]` each, spread evenly on a logarithmic axis."""
        order = np.argsort(-self.scores, axis=None, kind="stable")
        inside = self.members.ravel()[order]
        true, false = np.cumsum(inside), np.cumsum(~inside)
        at = np.unique(np.geomspace(1, false[-1], points).astype(int))
        place = np.searchsorted(false, at, "left")
        return at / false[-1], true[place] / true[-1]

    def describe(self) -> dict[str, Any]:
        """As plain values, for a run's record."""
        return {
            "holds": self.holds,
            "runs": int(self.members.shape[0]),
            "clients": int(self.members.shape[1]),
            "rounds": self.rounds,
            "auc": self.auc,
            "auc_low": self.auc_low,
            "auc_high": self.auc_high,
            "rates": [
                {"aimed": r.aimed, "false": r.false, "out": r.out, "true": r.true, "members": r.members}
                for r in self.rates
            ],
            "lower": self.lower,
            "claimed": self.claimed,
            "delta": self.delta,
            "confidence": self.confidence,
            "unit": self.unit,
            "statement": self.statement,
        }


def balanced(runs: int, clients: int, dice: np.random.Generator) -> np.ndarray:
    """Who takes part in which run: each client in half of them, independently of all others: bool `[runs, clients]`."""
    half = np.arange(runs) % 2 == 0
    return np.stack([dice.permutation(half) for _ in range(clients)], axis=1)


def lira(statistics: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Scores of every client in every run, by what the other runs show of it.

    Args:
        statistics: of a client's examples under a run's models: float `[runs, clients, looks]`. Nearly normal.
        members: which client took part in which run, bool `[runs, clients]`: each in half of them, and in three at least.

    Returns:
        Logarithms of likelihood ratios, of being in over being out: float64 `[runs, clients]`. Several looks are
        taken together with the correlation they have over all clients.
    """
    x = np.asarray(statistics, np.float64)
    looks = x.shape[2]
    sides = _left_out(x, members), _left_out(x, ~members)
    both = (sides[0][1] + sides[1][1]) / 2
    # Of the looks among each other, from what is left when each client's means are taken off.
    rest = np.where(members[..., None], x - sides[0][0], x - sides[1][0]) / np.sqrt(np.maximum(both, _LEAST))
    correlation = np.atleast_2d(np.corrcoef(rest.reshape(-1, looks), rowvar=False))
    precision = np.linalg.inv(correlation + 1e-3 * np.eye(looks))
    own = len(x) // 2 - 2  # degrees of freedom of a variance
    densities = []
    for mean, variance in sides:
        shrunk = (own * variance + _SHRUNK_BY * both) / (own + _SHRUNK_BY)
        deviation = np.sqrt(np.maximum(shrunk, _LEAST))
        z = (x - mean) / deviation
        densities.append(-0.5 * np.einsum("rck,kl,rcl->rc", z, precision, z) - np.log(deviation).sum(axis=-1))
    return densities[0] - densities[1]


def judged(
    scores: np.ndarray,
    members: np.ndarray,
    *,
    rounds: int,
    claimed: float | None = None,
    delta: float = 0.0,
    confidence: float = 0.999,
    unit: str = "device",
) -> Membership:
    """How well scores `[runs, clients]` tell members `[runs, clients]`, and what epsilon that implies at least."""
    area, spread = auc(scores, members), _jackknife(scores, members)
    reach = 1.96 * spread
    return Membership(
        scores,
        members,
        rounds,
        area,
        max(0.0, area - reach),
        min(1.0, area + reach),
        tuple(_rate(scores, members, aimed) for aimed in FALSE_ALARMS),
        lower_bound(scores, members, delta, confidence),
        claimed,
        delta,
        confidence,
        unit,
    )


def auc(scores: np.ndarray, members: np.ndarray) -> float:
    """Probability that a member scores higher than one who is none, ties counting half."""
    return pairs_above(scores[members], scores[~members]) / (int(members.sum()) * int((~members).sum()))


def lower_bound(scores: np.ndarray, members: np.ndarray, delta: float, confidence: float) -> float:
    """The epsilon that true and false positives imply at least: `(TPR - delta) / FPR <= e^epsilon`, and the same of negatives.

    Both rates at each of three thresholds, set by one side's scores alone, so that the other side's counts are
    binomial given them; Clopper and Pearson's limits, at `confidence` for all six together. What one run's clients have in
    common makes counts vary more than binomials do: they count for as many fewer as their spread between runs says
    (Korn and Graubard 1998).
    """
    alpha = (1 - confidence) / (2 * 2 * len(FALSE_ALARMS))
    best = 0.0
    for aimed in FALSE_ALARMS:
        for sign, one, other in ((1.0, members, ~members), (-1.0, ~members, members)):
            ranked = np.sort(sign * scores[other])[::-1]
            few = math.floor(aimed * len(ranked))
            if not few:
                continue
            beyond = sign * scores >= ranked[few - 1]
            high = _limit(beyond, other, 1 - alpha)
            low = _limit(beyond, one, alpha)
            if low > delta:
                best = max(best, math.log((low - delta) / high))
    return best


def _limit(beyond: np.ndarray, of: np.ndarray, quantile: float) -> float:
    """A limit of how often those of one kind are beyond a threshold; the clients of a run are a cluster."""
    return clustered_limit((beyond & of).sum(axis=1), of.sum(axis=1), quantile)


def _rate(scores: np.ndarray, members: np.ndarray, aimed: float) -> Rate:
    outside = np.sort(scores[~members])[::-1]
    few = math.floor(aimed * len(outside))
    if not few:
        return Rate(aimed, 0, len(outside), 0, int(members.sum()))
    beyond = scores >= outside[few - 1]
    return Rate(
        aimed,
        int((beyond & ~members).sum()),
        len(outside),
        int((beyond & members).sum()),
        int(members.sum()),
    )


def _jackknife(scores: np.ndarray, members: np.ndarray) -> float:
    """Standard error of the AUC, from leaving out one run at a time."""
    runs = len(scores)
    kept = [np.delete(np.arange(runs), run) for run in range(runs)]
    areas = np.array([auc(scores[rest], members[rest]) for rest in kept])
    return float(math.sqrt((runs - 1) / runs * ((areas - areas.mean()) ** 2).sum()))


def _left_out(x: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each client's statistics over the runs of a part: float64 `[runs, clients, looks]` each.

    Of each run the client's runs are paired, one it was in and one it was not. Every run is left out together with its
    partner: were it left out alone, the fits would tell by their sizes, and by what is lacking in them, what it was.

    Args:
        x: `[runs, clients, looks]`.
        part: whether a run counts, bool `[runs, clients]`; for each client half of them.
    """
    half = len(x) // 2
    order = np.argsort(part, axis=0, kind="stable")
    partner = np.empty_like(order)
    np.put_along_axis(partner, order, np.roll(order, half, axis=0), axis=0)
    inside = part[..., None]
    centre = np.where(inside, x, 0.0).sum(axis=0) / half  # so that squares do not cancel
    off = x - centre
    gone = np.where(inside, off, np.take_along_axis(off, partner[..., None], axis=0))
    mean = (np.where(inside, off, 0.0).sum(axis=0) - gone) / (half - 1)
    square = np.where(inside, off**2, 0.0).sum(axis=0) - gone**2
    return centre + mean, np.maximum(square - (half - 1) * mean**2, 0.0) / (half - 2)


def check_shadows(shadows: int, confidence: float) -> None:
    """Raise `PlanError` unless so many shadow runs can teach anything."""
    if isinstance(shadows, bool) or not isinstance(shadows, int) or shadows < 8 or shadows % 2:
        raise PlanError(
            "membership shadows",
            given=repr(shadows),
            expected="an even number >= 8: each client is in half of the runs, and must be in a few",
            do="Set shadows=64.",
        )
    if not 0.5 < confidence < 1.0:
        raise PlanError(
            "membership confidence",
            given=confidence,
            expected="a number between 0.5 and 1",
            do="Leave it out for 0.999.",
        )
