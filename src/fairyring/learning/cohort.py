"""Who takes part in a round: the cohort samplers that a plan can name. Drivers draw the cohorts."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

from fairyring.core.checks import number_in, whole_number
from fairyring.core.errors import PlanError

_TINY, _ABOVE_ONE = math.nextafter(0, 1), math.nextafter(1, 2)  # the numbers next to the ends of (0, 1]


@dataclass(frozen=True)
class Uniform:
    """`size` distinct clients per round, all equally likely."""

    size: int

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


@dataclass(frozen=True)
class Poisson:
    """Each client takes part with probability `rate`, independently. A cohort of more than `maximum` clients is cut to `maximum`."""

    rate: float
    maximum: int


@dataclass(frozen=True)
class Weighted:
    """`size` distinct clients per round, drawn one after the other in proportion to a client attribute."""

    size: int
    by: str

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


@dataclass(frozen=True)
class Fixed:
    """The given clients in each round. When the list ends, it starts again."""

    rounds: tuple[tuple[int, ...], ...]

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return max(map(len, self.rounds))


@dataclass(frozen=True)
class InTurn:
    """`size` clients per round: all clients take turns in a random order that stays the same."""

    size: int
    separation: int

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


@dataclass(frozen=True)
class Available:
    """Up to `size` distinct clients per round, drawn from those that are available at the hour of the round."""

    size: int
    by: str
    minutes: float

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size

    def hour(self, number: int, hours: int) -> int:
        """The hour in which round `number`, from 1, begins, of a trace of so many hours that is repeated."""
        return int((number - 1) * self.minutes // 60) % hours


Cohort = Uniform | Poisson | Weighted | Fixed | InTurn | Available


def uniform(size: int) -> Uniform:
    """`size` distinct clients per round, all equally likely. `cohort=size` in a plan means this.

    Raises:
        PlanError: `size` is not a whole number of at least 1.
    """
    return Uniform(whole_number("cohort size", size))


def poisson(rate: float, *, maximum: int) -> Poisson:
    """Each client takes part with probability `rate`, independently of the others and of other rounds.

    Args:
        rate: in (0, 1].
        maximum: an upper bound on a round's cohort. Choose it several standard deviations above `rate` times the population.

    Raises:
        PlanError: `rate` is outside (0, 1], or `maximum` is not a whole number of at least 1.
    """
    do = "Try cohort size / population size."
    rate = number_in("poisson rate", rate, _TINY, _ABOVE_ONE, expected="a number in (0, 1]", do=do)
    return Poisson(rate, whole_number("poisson maximum", maximum))


def weighted(size: int, *, by: str) -> Weighted:
    """`size` distinct clients per round, drawn in proportion to the client attribute `by` (non-negative numbers).

    Raises:
        PlanError: `size` is not a whole number of at least 1.
    """
    return Weighted(whole_number("cohort size", size), by)


def in_turn(size: int, *, separation: int) -> InTurn:
    """`size` clients per round, all clients in turn: each takes part again after `separation` rounds at the earliest.

    The order is random and stays the same, so with N clients a client's rounds lie at least `floor(N / size)` apart.
    A promise of differential privacy may rest on this. A device can keep to it by itself.

    Args:
        size: clients per round.
        separation: the fewest rounds from one participation of a client to its next. The population needs at least
            `size * separation` clients.

    Raises:
        PlanError: `size` or `separation` is not a whole number of at least 1.
    """
    return InTurn(whole_number("cohort size", size), whole_number("in_turn separation", separation))


def available(size: int, *, by: str = "available", minutes: float) -> Available:
    """`size` distinct clients per round, all equally likely among those that are available at its hour; all of these if they are fewer.

    The client attribute `by` is a trace: bool `[clients, hours]`, whether a client is available in each hour. It is repeated, so 24 hours
    are a day of the clock, the same each day, and 168 a week. The first round begins with hour 0.

    Who is available is no secret, and a promise of differential privacy is accounted without amplification by sampling: as if every
    client were in every round.

    Args:
        size: clients per round.
        by: the client attribute with the trace; see `Population.with_attributes`.
        minutes: from the beginning of one round to that of the next.

    Raises:
        PlanError: `size` is not a whole number of at least 1, or `minutes` is not a finite number above 0.
    """
    do = "Give the minutes from one round to the next, such as minutes=10."
    minutes = number_in("available minutes", minutes, _TINY, math.inf, expected="a number above 0", do=do)
    return Available(whole_number("cohort size", size), by, minutes)


def fixed(rounds: Sequence[Sequence[int]]) -> Fixed:
    """The given clients, by index, in each round. The list is repeated when it ends.

    Raises:
        PlanError: there are no rounds, a round is empty, or a client is in a round twice.
    """
    lists = tuple(tuple(int(client) for client in members) for members in rounds)
    for number, members in enumerate(lists, 1):
        if not members or len(set(members)) < len(members):
            raise PlanError(
                f"fixed cohort of round {number}",
                given=list(members)[:10],
                expected="at least one client, each once",
                do="Remove repeated clients and empty rounds.",
            )
    if not lists:
        raise PlanError(
            "fixed cohorts", given="no rounds", expected="at least one", do="Give a list of lists of clients."
        )
    return Fixed(lists)


def as_cohort(value: object) -> Cohort:
    """The cohort sampler of a plan's `cohort`: the sampler itself, or `uniform` for a number of clients.

    Raises:
        PlanError: it is neither a sampler nor a whole number of at least 1.
    """
    return value if isinstance(value, Cohort) else uniform(value)  # type: ignore[arg-type]
