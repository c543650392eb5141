"""Checks of an accountant's arguments."""

import math
from collections.abc import Mapping

from fairyring.core.errors import PlanError, refuse_unknown
from fairyring.privacy.participation import AnyParticipation, FixedSize, PoissonSampled
from fairyring.privacy.release import OfRound, Release

SHARED = ("discrete_gaussian", "skellam")
KNOWN = ("gaussian", "correlated", *SHARED)


def participation(given: AnyParticipation) -> None:
    """Refuse a participation that is impossible."""
    if isinstance(given, PoissonSampled):
        if not 0 < given.rate <= 1:
            raise PlanError(
                "PoissonSampled.rate", given=given.rate, expected="in (0, 1]", do="Give cohort / population."
            )
        if not 0 <= given.aside < 1:
            raise PlanError(
                "PoissonSampled.aside",
                given=given.aside,
                expected="a fraction of delta, in [0, 1)",
                do="Leave it out.",
            )
    elif isinstance(given, FixedSize):
        if not 1 <= given.size <= given.population:
            raise PlanError(
                "FixedSize",
                given=f"{given.size} of {given.population} devices",
                expected="at least 1, and at most the population",
                do="Draw fewer devices.",
            )
    else:
        if given.times is not None:
            _whole("AtMost.times", given.times)
        _whole("AtMost.separation", given.separation)


def delta(given: float) -> None:
    """Refuse a delta outside `(0, 1)`."""
    if not 0 < given < 1:
        raise PlanError(
            "delta",
            given=given,
            expected="a number between 0 and 1",
            do="Choose less than one over the number of devices.",
        )


def budget(given: float) -> None:
    """Refuse an epsilon that is not above 0."""
    if not given > 0:
        raise PlanError("epsilon", given=given, expected="a number above 0", do="Give a positive budget.")


def rounds(given: int) -> None:
    """Refuse a number of rounds below 1."""
    _whole("rounds", given)


def counts(given: Mapping[OfRound, int]) -> dict[tuple[Release, ...], int]:
    """Counts of rounds by what was released in them, without counts of 0. Incomplete releases are refused."""
    checked: dict[tuple[Release, ...], int] = {}
    for one, count in given.items():
        if not float(count).is_integer() or count < 0:
            raise PlanError(
                "number of releases", given=count, expected="a whole number from 0", do="Count them again."
            )
        releases = (one,) if isinstance(one, Release) else one
        for release in releases:
            _release(release)
        if count and releases:
            checked[releases] = checked.get(releases, 0) + int(count)
    return checked


def span(given: int | None, counted: int) -> int:
    """How many rounds lie from the first to the last of those counted; if `rounds` is None, they are consecutive."""
    if given is None:
        return counted
    if not float(given).is_integer() or given < counted:
        raise PlanError(
            "rounds from the first release to the last",
            given=given,
            expected=f"a whole number from {counted}, the rounds that released something",
            do="Leave it out if no round between them was without a release.",
        )
    return int(given)


def _release(one: Release) -> None:
    refuse_unknown("mechanism", [one.mechanism], KNOWN)
    _positive("noise multiplier", one.multiplier)
    if one.mechanism == "correlated":
        _whole("bands", one.bands)
    elif one.bands:
        raise PlanError(
            "bands",
            given=f"{one.bands} of {one.mechanism} noise",
            expected="bands only for correlated noise",
            do="Leave bands out, or choose the mechanism 'correlated'.",
        )
    if one.steps and (one.mechanism != "gaussian" or one.steps < 0):
        raise PlanError(
            "steps",
            given=f"{one.steps} of {one.mechanism} noise",
            expected="a whole number from 0, only for Gaussian noise",
            do="Leave steps out.",
        )
    if one.mechanism in SHARED:
        for name in ("l2", "l1", "sigma"):
            _positive(f"{name} of a {one.mechanism} release", getattr(one, name))
        for name in ("dimension", "shares"):
            _whole(f"{name} of a {one.mechanism} release", getattr(one, name))


def _positive(name: str, value: float) -> None:
    if not (math.isfinite(value) and value > 0):
        raise PlanError(name, given=value, expected="a finite number above 0", do="Give one.")


def _whole(name: str, value: int) -> None:
    if not float(value).is_integer() or value < 1:
        raise PlanError(name, given=value, expected="a whole number from 1", do="Give one.")
