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


Cohort = Uniform | Poisson | Weighted | Fixed | InTurn


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
