"""Membership inference for whole clients: did a model learn from this client?

The likelihood ratio attack (LiRA; Carlini, Chien, Nasr, Song, Terzis and Tramèr 2022, "Membership inference attacks from
first principles"), in its online variant, with a client in place of an example. The same plan is run many times, each time with a
random half of the clients. For each client, a statistic of its own examples under the model is nearly normal, with one mean
if the client took part and another if it did not. The attack is the ratio of the two likelihoods. Each run is attacked with
what the other runs show.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.statistics import clustered_limit, pairs_above

FALSE_ALARMS = (0.1, 0.01, 0.001)
_MINIMUM_VARIANCE = (
    1e-12  # smallest variance: a client that is never drawn may have the same statistic in all runs
)
_SHRUNK_BY = 8  # weight, in runs, of the pooled variance against that of each group


@dataclass(frozen=True)
class Rate:
    """One point of the attack's ROC curve.

    Attributes:
        aimed: target false positive rate.
        false, out: number of non-members taken for members, and of non-members.
        true, members: number of members recognised, and of members.

    If there are too few runs for so small a rate, `false` is 0 and there is no point.
    """

    aimed: float
    false: int
    out: int
    true: int
    members: int

    @property
    def fpr(self) -> float:
        """False positive rate; NaN if it could not be measured."""
        return self.false / self.out if self.false else math.nan

    @property
    def tpr(self) -> float:
        """True positive rate; NaN if it could not be measured."""
        return self.true / self.members if self.false else math.nan


@dataclass(frozen=True)
class Membership:
    """The result of membership inference.

    Attributes:
        scores: logarithm of the likelihood ratio, float64 `[runs, clients]`.
        members: which client took part in which run, bool `[runs, clients]`.
        rounds: rounds of each run.
        auc: probability that a member scores higher than a non-member; 0.5 is chance.
        auc_low, auc_high: 95 % interval of the AUC, by leaving out one run at a time.
        rates: true positives at false positive rates of 10, 1 and 0.1 %.
        lower: with `confidence`, epsilon at `delta` is not below it, by the rates of true and false positives.
        claimed: epsilon that the plan claims for a device after so many rounds; None if it promises nothing to devices.
        delta: delta of both; 0 for a plan without a budget.
        confidence: confidence of `lower`.
        unit: unit of the plan's promise, if it makes one.
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
        rates = [
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
            f"Recognised: {'; '.join(rates) or 'too few runs to say'}. "
            f"{bound}, with {100 * self.confidence:.6g} % confidence"
        )
        if self.claimed is None and self.unit == "example":
            return f"{words}; what this plan claims is of one example, and less of a client that has many."
        if self.claimed is None:
            return f"{words}; of a client with all its examples this plan claims none."
        return f"{words}; {self.claimed:.3g} at delta {self.delta:.3g} is claimed."

    def roc(self, points: int = 200) -> tuple[np.ndarray, np.ndarray]:
        """The ROC curve: false and true positive rates, float64 `[<= points]` each, evenly spaced on a logarithmic axis."""
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
    """Random memberships: each client in half of the runs, independently of all others: bool `[runs, clients]`."""
    half = np.arange(runs) % 2 == 0
    return np.stack([dice.permutation(half) for _ in range(clients)], axis=1)


def lira(statistics: np.ndarray, members: np.ndarray) -> np.ndarray:
    """Scores of every client in every run, computed from the other runs.

    Args:
        statistics: nearly normal statistics of a client's examples under a run's models: float `[runs, clients, looks]`.
        members: which client took part in which run, bool `[runs, clients]`: each in half of them, and in at least three.

    Returns:
        Logarithms of likelihood ratios, member over non-member: float64 `[runs, clients]`. Several looks are combined with
        their correlation over all clients.
    """
    x = np.asarray(statistics, np.float64)
    looks = x.shape[2]
    groups = _left_out(x, members), _left_out(x, ~members)
    both = (groups[0][1] + groups[1][1]) / 2
    # Correlation between the looks, from the residuals after subtracting each client's means.
    rest = np.where(members[..., None], x - groups[0][0], x - groups[1][0]) / np.sqrt(
        np.maximum(both, _MINIMUM_VARIANCE)
    )
    correlation = np.atleast_2d(np.corrcoef(rest.reshape(-1, looks), rowvar=False))
    precision = np.linalg.inv(correlation + 1e-3 * np.eye(looks))
    own = len(x) // 2 - 2  # degrees of freedom of a variance
    densities = []
    for mean, variance in groups:
        shrunk = (own * variance + _SHRUNK_BY * both) / (own + _SHRUNK_BY)
        deviation = np.sqrt(np.maximum(shrunk, _MINIMUM_VARIANCE))
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
    """How well scores `[runs, clients]` identify members `[runs, clients]`, and the lower bound on epsilon this implies."""
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
    """Probability that a member scores higher than a non-member; ties count half."""
    return pairs_above(scores[members], scores[~members]) / (int(members.sum()) * int((~members).sum()))


def lower_bound(scores: np.ndarray, members: np.ndarray, delta: float, confidence: float) -> float:
    """Lower bound on epsilon from `(TPR - delta) / FPR <= e^epsilon`, and the same for negatives.

    Both rates are taken at each of three thresholds. A threshold depends only on the scores of one group, so the counts of
    the other group are binomial given the threshold. Clopper-Pearson limits hold at `confidence` for all six together. The
    clients of a run are dependent, so counts vary more than binomials: they are treated as correspondingly fewer, by their
    variance between runs (Korn and Graubard 1998).
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
    """A confidence limit on how often clients of one group exceed a threshold; the clients of a run form a cluster."""
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
    """Jackknife standard error of the AUC, leaving out one run at a time."""
    runs = len(scores)
    kept = [np.delete(np.arange(runs), run) for run in range(runs)]
    areas = np.array([auc(scores[rest], members[rest]) for rest in kept])
    return float(math.sqrt((runs - 1) / runs * ((areas - areas.mean()) ** 2).sum()))


def _left_out(x: np.ndarray, part: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Mean and variance of each client's statistics over a subset of runs: float64 `[runs, clients, looks]` each.

    For each client, runs are paired: one it was in with one it was not in. Each run is left out together with its partner.
    If it were left out alone, the size of the fits would reveal which kind of run it was.

    Args:
        x: `[runs, clients, looks]`.
        part: which runs are in the subset, bool `[runs, clients]`; half of them for each client.
    """
    half = len(x) // 2
    order = np.argsort(part, axis=0, kind="stable")
    partner = np.empty_like(order)
    np.put_along_axis(partner, order, np.roll(order, half, axis=0), axis=0)
    inside = part[..., None]
    centre = np.where(inside, x, 0.0).sum(axis=0) / half  # to avoid cancellation in the squares
    off = x - centre
    gone = np.where(inside, off, np.take_along_axis(off, partner[..., None], axis=0))
    mean = (np.where(inside, off, 0.0).sum(axis=0) - gone) / (half - 1)
    square = np.where(inside, off**2, 0.0).sum(axis=0) - gone**2
    return centre + mean, np.maximum(square - (half - 1) * mean**2, 0.0) / (half - 2)


def check_shadows(shadows: int, confidence: float) -> None:
    """Raise `PlanError` unless there are enough shadow runs to learn anything."""
    if isinstance(shadows, bool) or not isinstance(shadows, int) or shadows < 8 or shadows % 2:
        raise PlanError(
            "membership shadows",
            given=repr(shadows),
            expected="an even number >= 8: each client is in half of the runs, and needs several",
            do="Set shadows=64.",
        )
    if not 0.5 < confidence < 1.0:
        raise PlanError(
            "membership confidence",
            given=confidence,
            expected="a number between 0.5 and 1",
            do="Leave it out for 0.999.",
        )
