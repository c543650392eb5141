"""Who takes part in a round: the rules a plan can name. Drawing is the driver's work."""

from collections.abc import Sequence
from dataclasses import dataclass

from fairyring.core.errors import PlanError


@dataclass(frozen=True)
class Uniform:
    """`size` distinct clients a round, all equally likely."""

    size: int

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


@dataclass(frozen=True)
class Poisson:
    """Each client takes part with probability `rate`, independently; a round of more than `maximum` is cut there."""

    rate: float
    maximum: int


@dataclass(frozen=True)
class Weighted:
    """`size` distinct clients a round, drawn one after the other in proportion to a client attribute."""

    size: int
    by: str

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


@dataclass(frozen=True)
class Fixed:
    """The given clients in each round, over and over when the list ends."""

    rounds: tuple[tuple[int, ...], ...]

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return max(map(len, self.rounds))


@dataclass(frozen=True)
class InTurn:
    """`size` clients a round, all clients one after the other in a random order, over and over."""

    size: int
    separation: int

    @property
    def maximum(self) -> int:
        """The most clients a round can have."""
        return self.size


Cohort = Uniform | Poisson | Weighted | Fixed | InTurn


def uniform(size: int) -> Uniform:
    """`size` distinct clients a round, all equally likely: what `cohort=size` in a plan means."""
    return Uniform(_whole("cohort size", size))


def poisson(rate: float, *, maximum: int) -> Poisson:
    """Each client takes part with probability `rate`, independently of the others and of other rounds.

    Args:
        rate: in (0, 1].
        most: an upper bound on a round's cohort; choose it several deviations above `rate` times the population.

    Raises:
        PlanError: a rate outside (0, 1].
    """
    if not 0 < rate <= 1:
        raise PlanError(
            "poisson rate", given=rate, expected="a number in (0, 1]", do="Try cohort size / population size."
        )
    return Poisson(float(rate), _whole("poisson most", maximum))


def weighted(size: int, *, by: str) -> Weighted:
    """`size` distinct clients a round, in proportion to the client attribute `by` (non-negative numbers)."""
    return Weighted(_whole("cohort size", size), by)


def in_turn(size: int, *, separation: int) -> InTurn:
    """`size` clients a round, all clients in turn: each takes part again only after `separation` rounds or more.

    The order is random and stays the same, so with N clients a client's rounds lie `floor(N / size)` or more apart.
    A promise of differential privacy may rest on it; a device keeps to it by itself.

    Args:
        size: clients a round.
        separation: rounds from one participation of a client to its next, at least; `size * separation` clients are
            needed.

    Raises:
        PlanError: one of them is not a whole number of at least 1.
    """
    return InTurn(_whole("cohort size", size), _whole("in_turn separation", separation))


def fixed(rounds: Sequence[Sequence[int]]) -> Fixed:
    """The given clients, by index, in each round; the list is repeated when it ends.

    Raises:
        PlanError: no rounds, an empty round, or a client twice in one.
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


def _whole(what: str, value: object) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 1:
        raise PlanError(
            what,
            given=repr(value),
            expected="a whole number >= 1",
            do="Give how many clients take part in a round.",
        )
    return value


def as_cohort(value: object) -> Cohort:
    """A cohort rule from what a plan was given: a rule, or a number of clients."""
    return value if isinstance(value, Cohort) else uniform(value)  # type: ignore[arg-type]
