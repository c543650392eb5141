"""Which clients are sampled for a round, and which vanish before they report: a function of seed and round alone."""

from collections.abc import Callable, Mapping
from enum import IntEnum
from functools import lru_cache
from typing import NamedTuple, Protocol

import jax
import numpy as np

from fairyring.core.checks import number_in
from fairyring.core.errors import PlanError
from fairyring.core.keys import Purpose, of_round, root, shared
from fairyring.core.program import shared_jit
from fairyring.learning.cohort import Available, Cohort, Fixed, InTurn, Poisson, Uniform, Weighted


class DropoutPoint(IntEnum):
    """The points of a secure sum before which a client may vanish, in order. The first three come before its input."""

    BEFORE_ADVERT = 0
    BEFORE_SHARES = 1
    BEFORE_INPUT = 2
    BEFORE_SIGNATURE = 3
    BEFORE_UNMASKING = 4


_NOBODY = np.zeros(0, np.int64)
RECENT = 64  # cohorts that are kept, as many as are drawn at a time; fewer of large ones


class RoundCohort(NamedTuple):
    """The clients of one round, as indices into the population: int64 arrays, ascending.

    Attributes:
        round: its number; the first is 1.
        sampled: all clients that were asked.
        staying: those of them that stay to report.
        canaries: of an audit; numbered from the population's size on. They always stay.
    """

    round: int
    sampled: np.ndarray
    staying: np.ndarray
    canaries: np.ndarray = _NOBODY


class Clients(Protocol):
    """The clients of a run, as far as its server knows them: a population is one, and so are the devices of a service.

    Attributes:
        ids: of the clients.
        sizes: how many examples each has; 1 where only the client knows.
        attributes: client attributes, by name.
    """

    @property
    def ids(self) -> np.ndarray: ...

    @property
    def sizes(self) -> np.ndarray: ...

    @property
    def attributes(self) -> Mapping[str, np.ndarray]: ...

    def __len__(self) -> int: ...


class CohortSampler:
    """Samples the cohort of each round. Clients without examples are never sampled.

    Args:
        rule: the plan's cohort.
        population: the clients.
        seed: of the run.
        dropout: probability that a sampled client vanishes before it reports; or the client attribute with each client's own.
        canaries: how many clients are replaced by canaries, at most half of them. Canaries are numbered from the population's
            size on, and sampled like clients, so that cohorts keep their size.

    Raises:
        PlanError: the rule does not fit the population, or a dropout is outside [0, 1).

    Attributes:
        dropout: the probability, or the largest of any client that has examples.
        own_dropout: whether each client has its own.
    """

    def __init__(
        self, rule: Cohort, population: Clients, seed: int, dropout: float | str = 0.0, canaries: int = 0
    ) -> None:
        self._dropout_of: np.ndarray | None = None
        self.own_dropout = isinstance(dropout, str)
        if isinstance(dropout, str):
            self._dropout_of = _own_dropout(population, dropout)
            dropout = float(self._dropout_of[np.asarray(population.sizes) > 0].max(initial=0.0))
        self.dropout = number_in(
            "dropout",
            dropout,
            0.0,
            1.0,
            expected="a number in [0, 1), or the name of a client attribute",
            do="Give the share of sampled clients that drop out, such as dropout=0.1.",
        )
        self.rule, self.root = rule, root(seed)
        self.clients, self.canaries = len(population), 0
        self.eligible = np.flatnonzero(np.asarray(population.sizes) > 0)
        if canaries:
            if isinstance(rule, Weighted | Fixed | Available):
                raise PlanError(
                    "audit",
                    given=f"a cohort that is {type(rule).__name__.lower()}",
                    expected="one that canaries can be drawn into like any client",
                    do="Use a uniform, Poisson or in-turn cohort, or leave the audit out.",
                )
            # Evenly spread, so that the clients that remain are of all kinds.
            self.canaries = min(canaries, len(self.eligible) // 2)
            replaced = np.linspace(0, len(self.eligible), self.canaries, endpoint=False).astype(int)
            self.eligible[replaced] = self.clients + np.arange(self.canaries)
            self.eligible = np.sort(self.eligible)
        self._check(population)
        if isinstance(rule, InTurn):
            key = shared(of_round(self.root, 0), Purpose.TURNS)
            words = np.asarray(jax.random.bits(key, (len(self.eligible), 2))).astype(np.uint64)
            self._turns = np.argsort((words[:, 0] << np.uint64(32)) | words[:, 1], kind="stable")
        if isinstance(rule, Weighted):
            weights = np.asarray(population.attributes[rule.by], float)[self.eligible]
            with np.errstate(divide="ignore"):
                self.log_weights = np.log(weights)
        if isinstance(rule, Available):
            self._trace = np.asarray(population.attributes[rule.by]).astype(bool)[self.eligible]
        self._width = len(self.eligible)  # a number for every client
        if isinstance(rule, Uniform) and rule.size * 4 <= self._width:
            # Draws with replacement, enough to hold `size` distinct ones.
            self._width = min(self._width, 2 * rule.size + 32)
        self._block = max(1, min(RECENT, (1 << 17) // max(1, self._width)))  # rounds drawn at a time
        self._at, self._drawn = -1, np.zeros((0, 0, 2), np.uint32)
        self._recent: dict[int, RoundCohort] = {}
        self._kept = max(2, min(RECENT, (1 << 17) // rule.maximum))

    def of(self, number: int) -> RoundCohort:
        """The cohort of round `number`, from 1. The last ones are kept, so asking again costs nothing."""
        if number not in self._recent:
            if len(self._recent) == self._kept:
                self._recent.pop(min(self._recent))
            self._recent[number] = self._draw(number)
        return self._recent[number]

    def _draw(self, number: int) -> RoundCohort:
        if isinstance(self.rule, InTurn):
            places = ((number - 1) * self.rule.size + np.arange(self.rule.size)) % len(self._turns)
            sampled = np.sort(self.eligible[self._turns[places]])
        elif not isinstance(self.rule, Fixed):
            block, place = divmod(number - 1, self._block)
            if block != self._at:
                rounds = np.arange(self._block, dtype=np.int32) + np.int32(1 + block * self._block)
                self._drawn = np.asarray(_bits(self._width)(self.root, rounds))
                self._at = block
            sampled = self._sample(number, self._drawn[place])
        else:
            members = np.array(self.rule.rounds[(number - 1) % len(self.rule.rounds)], np.int64)
            sampled = members[np.isin(members, self.eligible)]
        canaries = sampled[sampled >= self.clients]
        sampled = sampled[sampled < self.clients]
        return RoundCohort(number, sampled, self._stay(number, sampled), canaries)

    def dropout_points(self, cohort: RoundCohort) -> dict[int, DropoutPoint]:
        """At which point of a secure sum each client of a cohort vanishes; clients that stay to the end are left out.

        A client that drops out before it reports does so at any of the points before its input. Each of the others may still
        vanish afterwards, with the same probability, which does no harm while enough are left to unmask the sum.
        """
        if not self.dropout or len(cohort.sampled) == 0:
            return {}
        *early, before_signature, before_unmasking = DropoutPoint
        gone = np.setdiff1d(cohort.sampled, cohort.staying)
        places = (self._unit_for_dropout(cohort.round, gone) * len(early)).astype(int)
        points = {client: early[place] for client, place in zip(gone.tolist(), places.tolist(), strict=True)}
        staying = cohort.staying
        of = np.broadcast_to(self._dropout(staying), staying.shape)
        for client, unit, own in zip(
            staying.tolist(), self._unit_for_dropout(cohort.round, staying), of, strict=True
        ):
            if unit < own:
                points[client] = before_signature if unit < own / 2 else before_unmasking
        return points

    def _unit_for_dropout(self, number: int, clients: np.ndarray) -> np.ndarray:
        """A number in [0, 1) for each client."""
        return _uniform(self.root, number, clients, Purpose.DROPOUT_POINT)

    def _sample(self, number: int, bits: np.ndarray) -> np.ndarray:
        rule, eligible = self.rule, self.eligible
        assert not isinstance(rule, Fixed | InTurn)
        wide = (bits[:, 0].astype(np.uint64) << np.uint64(32)) | bits[:, 1]
        unit = (wide >> np.uint64(11)).astype(np.float64) * 2.0**-53
        if isinstance(rule, Poisson):
            chosen = np.flatnonzero(unit < rule.rate)[: rule.maximum]
        elif isinstance(rule, Weighted):
            score = self.log_weights - np.log(-np.log(np.maximum(unit, 1e-300)))
            chosen = np.argpartition(-score, rule.size - 1)[: rule.size]
        elif isinstance(rule, Available):
            there = np.flatnonzero(self._trace[:, rule.hour(number, self._trace.shape[1])])
            chosen = there[np.argsort(wide[there], kind="stable")[: rule.size]]
        elif len(unit) < len(eligible):
            places = (unit * len(eligible)).astype(np.int64)
            _, first = np.unique(places, return_index=True)
            chosen = places[np.sort(first)[: rule.size]]
            if len(chosen) < rule.size:  # too many repeats, which is very rare
                rest = np.setdiff1d(np.arange(len(eligible)), chosen)
                chosen = np.concatenate([chosen, rest[: rule.size - len(chosen)]])
        else:
            chosen = np.argsort(wide, kind="stable")[: rule.size]
        return np.sort(eligible[chosen])

    def _stay(self, number: int, sampled: np.ndarray) -> np.ndarray:
        if not self.dropout or len(sampled) == 0:
            return sampled
        units = _uniform(self.root, number, sampled, Purpose.DROPOUT)
        return sampled[units >= self._dropout(sampled)]

    def _dropout(self, clients: np.ndarray) -> np.ndarray | float:
        """The probability of each of some clients to vanish."""
        return self.dropout if self._dropout_of is None else self._dropout_of[clients]

    def _check(self, population: Clients) -> None:
        rule, clients = self.rule, len(self.eligible)
        if isinstance(rule, Weighted):
            if rule.by not in population.attributes:
                raise PlanError(
                    "weighted cohort",
                    given=f"by={rule.by!r}",
                    expected=f"one of the client attributes {sorted(population.attributes)}",
                    do="Add that attribute to the population, or weigh by another one.",
                )
            weights = np.asarray(population.attributes[rule.by], float)[self.eligible]
            if not np.all(np.isfinite(weights)) or np.any(weights < 0):
                raise PlanError(
                    f"client attribute {rule.by!r}",
                    given="negative or not finite values",
                    expected="weights >= 0",
                    do="Correct the attribute.",
                )
            clients = int(np.count_nonzero(weights))
        if isinstance(rule, Available):
            _check_trace(rule, population, self.eligible)
        if isinstance(rule, Fixed):
            outside = [c for members in rule.rounds for c in members if not 0 <= c < len(population)]
            if outside:
                raise PlanError(
                    "fixed cohort",
                    given=f"client {outside[0]}",
                    expected=f"clients 0 to {len(population) - 1}",
                    do="Give indices into the population.",
                )
            return
        if isinstance(rule, InTurn) and rule.size * rule.separation > clients:
            raise PlanError(
                "cohort in turn",
                given=f"{rule.size} of {clients} clients a round",
                expected=f"at least {rule.size * rule.separation} clients, so that {rule.separation} rounds lie between",
                do=f"Set separation={clients // rule.size} or less, or a smaller cohort.",
            )
        if isinstance(rule, Uniform | Weighted) and rule.size > clients:
            raise PlanError(
                "cohort",
                given=f"{rule.size} clients a round",
                expected=f"at most {clients}, the clients that have examples",
                do=f"Set cohort={clients} or less.",
            )


def _own_dropout(population: Clients, name: str) -> np.ndarray:
    """Each client's own probability to vanish, float64 `[clients]`."""
    if name not in population.attributes:
        raise PlanError(
            "dropout",
            given=repr(name),
            expected=f"a number, or one of the client attributes {sorted(population.attributes)}",
            do="Add the attribute: population.with_attributes({'dropout': {...}}), by id.",
        )
    values = np.asarray(population.attributes[name])
    right = values.ndim == 1 and values.dtype.kind in "biuf"
    if not right or not np.all((values >= 0) & (values < 1)):
        wrong = np.flatnonzero(~((values >= 0) & (values < 1))) if right else [0]
        raise PlanError(
            f"client attribute {name!r}",
            given=f"{values[wrong[0]]!s:.60} for client {population.ids[wrong[0]]}",
            expected="one number in [0, 1) for each client",
            do="Give each client the probability with which it drops out.",
        )
    return values.astype(np.float64)


def _check_trace(rule: Available, population: Clients, eligible: np.ndarray) -> None:
    """Raise `PlanError` unless the population has a trace that some hour has enough clients of."""
    if rule.by not in population.attributes:
        raise PlanError(
            "available cohort",
            given=f"by={rule.by!r}",
            expected=f"one of the client attributes {sorted(population.attributes)}",
            do="Add the trace: population.with_attributes({'available': hours}), bool [clients, hours].",
        )
    trace = np.asarray(population.attributes[rule.by])
    if trace.ndim != 2 or trace.dtype.kind not in "biuf" or not np.isin(trace, (0, 1)).all():
        raise PlanError(
            f"client attribute {rule.by!r}",
            given=f"an array {trace.dtype} {trace.shape}",
            expected="a trace, bool [clients, hours]",
            do="Say for every client and hour whether it is available: True or False.",
        )
    most = int(trace[eligible].astype(bool).sum(axis=0).max(initial=0))
    if most < rule.size:
        raise PlanError(
            "available cohort",
            given=f"{rule.size} clients a round",
            expected=f"at most {most}, the most that are available in any hour and have examples",
            do=f"Set size={most} or less." if most else "Correct the trace: nobody is ever available.",
        )


@lru_cache
def _bits(width: int) -> Callable[[jax.Array, np.ndarray], jax.Array]:
    """`(root, rounds) -> bits`: 64 random bits, as two words, for each of `width` places in each round: uint32 `[rounds, width, 2]`."""

    def bits(root: jax.Array, rounds: jax.Array) -> jax.Array:
        return jax.lax.map(
            lambda round: jax.random.bits(shared(of_round(root, round), Purpose.COHORT), (width, 2)), rounds
        )

    return shared_jit(bits)


def _uniform(root: jax.Array, number: int, clients: np.ndarray, purpose: Purpose) -> np.ndarray:
    """A number in [0, 1) for each client, for one purpose in one round: float32 `[clients]`."""
    room = 1 << max(0, len(clients) - 1).bit_length()  # a few shapes, so a few compilations
    padded = np.zeros(room, np.uint32)
    padded[: len(clients)] = clients
    return np.asarray(_padded_uniform(root, np.int32(number), padded, np.int32(purpose)))[: len(clients)]


@shared_jit
def _padded_uniform(root: jax.Array, round: jax.Array, clients: jax.Array, purpose: jax.Array) -> jax.Array:
    key = of_round(root, round)
    keys = jax.vmap(lambda client: jax.random.fold_in(jax.random.fold_in(key, client), purpose))(clients)
    return jax.vmap(jax.random.uniform)(keys)
