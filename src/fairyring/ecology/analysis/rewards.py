"""Evolved rewards over worlds: their signs, and whether chance explains them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import (
    Interval,
    SignFraction,
    bca_interval,
    holm,
    samples,
    sign_flip_p,
    sign_fraction,
)

Agreement = Literal["agrees", "disagrees", "undecided"]


@dataclass(frozen=True)
class RewardRow:
    """The reward for one event over worlds.

    Attributes:
        name: of the event.
        mean: of the normalised rewards, with its BCa interval.
        signs: in how many worlds it is positive, with the exact sign test.
        p_holm: p of that test, adjusted over all events except the dummy; not adjusted for the dummy.
        expected_sign: +1, -1, or None for no expectation.
        agreement: whether the sign agrees with the expected one; None without an expectation. It is undecided unless
            `p_holm` is below 1 - confidence and the interval excludes 0 on the side of the majority.
        null_holds: for the dummy, whether its sign-flip test is consistent with 0 (p above 1 - confidence). Unlike an
            interval, the test is exact for up to 16 worlds. None for every other event.
    """

    name: str
    mean: Interval
    signs: SignFraction
    p_holm: float
    expected_sign: int | None
    agreement: Agreement | None
    null_holds: bool | None


def reward_table(
    rewards: npt.ArrayLike,
    names: Sequence[str],
    dummy: str,
    *,
    expected_sign: Mapping[str, int] | None = None,
    confidence: float = 0.95,
    seed: int = 0,
    resamples: int = 9999,
) -> tuple[RewardRow, ...]:
    """The table of evolved rewards: one row for each event, in the order of `names`.

    Each world is one vector, normalised to length 1, since a greedy policy does not depend on the scale of its rewards. The
    dummy, an event without consequences, is the null. Its reward is not under selection, so it should be near 0; if it is
    not, no other row can be trusted.

    Args:
        rewards: `[worlds, events]`, the mean reward vector of each world's population.
        names: of the events.
        dummy: the name of the event without consequence.
        expected_sign: +1 or -1 by name, for events with an expectation.
        confidence: of the intervals; `1 - confidence` is the level of the sign tests.
        seed: of the bootstraps, the same for every event.
        resamples: of each bootstrap.

    Raises:
        EcologyError, StatisticsError: names that do not fit or repeat, an unknown name, an invalid sign, or a world without rewards.
    """
    r = samples.array("rewards", rewards, axes=2)
    names, expected = list(names), dict(expected_sign or {})
    if r.shape[1] != len(names) or len(set(names)) != len(names):
        raise EcologyError(
            "names",
            given=f"{len(names)} for rewards of shape {r.shape}",
            expected="one an event, all different",
            do="Name the columns.",
        )
    for name in [dummy, *expected]:
        if name not in names:
            raise EcologyError(
                "event", given=repr(name), expected=f"one of {', '.join(names)}", do="Take one of them."
            )
    if any(sign not in (1, -1) for sign in expected.values()):
        raise EcologyError(
            "expected_sign",
            given=expected,
            expected="+1 or -1",
            do="Leave out events without an expectation.",
        )
    lengths = np.linalg.norm(r, axis=1)
    if not len(r) or not lengths.all():
        raise EcologyError(
            "rewards",
            given=f"{len(r)} worlds, {int((lengths == 0).sum())} of them without any reward",
            expected="worlds whose reward vector is not zero",
            do="Leave out worlds without rewards, and report them.",
        )
    unit = r / lengths[:, None]
    means = [bca_interval(column, confidence, seed, resamples=resamples) for column in unit.T]
    signs = [sign_fraction(column, confidence) for column in unit.T]
    real = [name for name in names if name != dummy]
    adjusted = dict(
        zip(real, holm(s.p for s, name in zip(signs, names, strict=True) if name != dummy), strict=True)
    )
    rows = []
    for name, mean, sign, column in zip(names, means, signs, unit.T, strict=True):
        p, want = adjusted.get(name, sign.p), expected.get(name)
        shown = _sign(mean, sign) if p < 1.0 - confidence else 0
        agreement: Agreement | None = None
        if want is not None:
            agreement = "undecided" if shown == 0 else "agrees" if shown == want else "disagrees"
        rows.append(
            RewardRow(
                name,
                mean,
                sign,
                p,
                want,
                agreement,
                sign_flip_p(column, seed) > 1.0 - confidence if name == dummy else None,
            )
        )
    return tuple(rows)


def _sign(mean: Interval, signs: SignFraction) -> int:
    """The sign that both the interval and the majority have, or 0."""
    if mean.low > 0.0 and signs.positive > signs.negative:
        return 1
    if mean.high < 0.0 and signs.negative > signs.positive:
        return -1
    return 0
