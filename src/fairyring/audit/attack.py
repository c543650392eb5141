"""Reconstructing examples from one update in the clear and from what a plan releases of a round, beside a blind guess.

Everything starts from a plan's first model. Each attempt is a round of its own from there, with a cohort of its own and
fresh noise, counted in a ledger in memory: an audit spends nothing of a run's budget, since only its maker sees it.
"""

from dataclasses import dataclass, field
from typing import Any

import jax
import numpy as np

from fairyring.audit.attacker import Attacker, NoAttack, shown_as_sent
from fairyring.learning.plan import Plan
from fairyring.population import Population
from fairyring.privacy.prior import Prior
from fairyring.privacy.reads import Nearest, Reads, best_guess, nearest
from fairyring.privacy.reconstruction import Comparison, blind, not_better_than_blind
from fairyring.simulation import Trial

Tree = Any
_OTHERS = 2000  # examples of others that prior knowledge is taken from
_SOUGHT = 20_000  # examples of a cohort that readings are compared with


@dataclass(frozen=True)
class Reconstruction:
    """What attacks reconstructed from updates.

    Attributes:
        attack: the attack, in words.
        limits: what that attack cannot show, in words.
        truth: the examples whose bare updates were attacked, as the model sees them, `[n, ...]`.
        bare: the best-ranked reading of each bare update of one step, `[n, ...]`.
        protected: the best-ranked reading of the release of a round with that client, `[n, ...]`.
        nearest: the example in that release that is nearest to this reading, `[n, ...]`.
        blind: the best single guess from other clients' examples, `[n, ...]`.
        error: median mean squared error of each, to the nearest example.
        of_bare: errors on bare updates, compared with the blind guess.
        of_protected: the same for releases.
        bare_reads: exact reads of bare updates.
        reads: exact reads of releases.
    """

    attack: str
    limits: tuple[str, ...]
    truth: np.ndarray
    bare: np.ndarray
    protected: np.ndarray
    nearest: np.ndarray
    blind: np.ndarray
    error: dict[str, float]
    of_bare: Comparison
    of_protected: Comparison
    bare_reads: Reads
    reads: Reads

    @property
    def nothing(self) -> bool:
        """Whether these attacks got no more from these releases than a blind guess."""
        return self.reads.none and self.of_protected.not_better

    @property
    def statement(self) -> str:
        """The result in words."""
        return (
            "One update of one example, in the clear, by the same attack: "
            f"{_lower(self.bare_reads.statement('updates'))} What this plan releases of a round, from the first model: "
            f"{self.of_releases}"
        )

    @property
    def of_releases(self) -> str:
        """The result in words, for the plan's releases alone."""
        count = self.reads.targets
        if self.nothing:
            return (
                f"these attacks read nothing better than a blind guess from {count} releases; other attacks may. "
                f"The best-ranked reading was {self.of_protected.figures}."
            )
        if self.reads.none:
            return (
                f"no example was read exactly from {count} releases, but the best-ranked reading was better than a blind "
                f"guess: {self.of_protected.figures}. Other attacks may read more."
            )
        return f"{_lower(self.reads.statement('releases'))} Other attacks may read more."

    def record(self) -> dict[str, Any]:
        """The result as plain values, for a run's folder."""
        return {
            "attack": self.attack,
            "limits": list(self.limits),
            "statement": self.statement,
            "error": self.error,
            "not_better_than_blind": self.nothing,
            "bare_reads": _plain(self.bare_reads),
            "reads": _plain(self.reads),
        }


def reconstruct(
    plan: Plan, population: Population, *, seed: int = 0, targets: int = 6, init: Any = None
) -> Reconstruction:
    """Try to reconstruct examples of a population from updates, in the clear and as a plan sends them.

    The strongest attack here that fits the model is used. Where the first layer is dense, that is the quotients of each of its
    units, where readings that are certain are subtracted; otherwise the attack searches for an example whose gradient is the one
    that was seen. It is made on one client's step on one example, and on the mean change of a whole round, with everything
    that the plan does to updates. The attacker knows the plan, the model, and the examples of clients that are not in that
    round, by which it ranks its readings. Its readings are then compared with all examples in the round.

    Where all clients are in every round, the attacker knows the examples of all but one client, and is judged by that client's.

    Args:
        plan: of a classification task; of any task where the first layer is dense.
        population: whose examples are sought.
        seed: of cohorts, the first model and the attack's starting points.
        targets: how many releases to attack, and as many bare updates.
        init: parameters of the first model, if it is not the plan's.

    Raises:
        PlanError: the task's inputs are not real numbers, no attack fits the task, or there is only one client.
    """
    plan = shown_as_sent(plan)
    with Trial(plan, population, seed=seed, init=init) as trial:
        params = trial.state.params
        attacker = Attacker(plan, population, params, seed)
        bare, released = _Tally(), _Tally()
        truths = []
        noise: float | None = None
        for number in range(1, targets + 1):
            cohort, after = trial.round(number)
            clients = np.asarray(cohort.staying)
            client, sought, others = _sides(clients, len(population), number, seed)
            known = attacker.prepared(others, _OTHERS)
            prior = Prior.of(known.reshape(len(known), -1))
            secret = attacker.prepared(sought, _SOUGHT)
            truth = attacker.prepared(np.array([client]), 1)
            truths.append(truth[0])
            change = _flat(params) - _flat(after.params)
            if noise is None:
                noise = attacker.noise(change, len(clients))
            for tally, seen, examples, level in (
                (bare, attacker.gradient(client), truth, 0.0),
                (released, change, secret, noise),
            ):
                reading = attacker.read(seen, prior, number, noise=level)
                guess = blind(known) if len(examples) == 1 else best_guess(known, len(examples), seed=number)
                tally.add(
                    reading.examples.reshape(-1, *attacker.shape), reading.sure, examples, known, guess, prior
                )
    of_bare, of_released = bare.compared(), released.compared()
    return Reconstruction(
        attacker.name,
        attacker.limits,
        truth=np.stack(truths).astype(np.float32),
        bare=np.stack(bare.best),
        protected=np.stack(released.best),
        nearest=np.stack(released.nearest),
        blind=np.stack(released.guesses),
        error={"bare": of_bare.attack, "protected": of_released.attack, "blind": of_released.blind},
        of_bare=of_bare,
        of_protected=of_released,
        bare_reads=bare.reads(),
        reads=released.reads(),
    )


def _flat(params: Tree) -> np.ndarray:
    """As the plan's layout has them, float32 `[d]`."""
    return np.concatenate([np.ravel(np.asarray(leaf, np.float32)) for leaf in jax.tree.leaves(params)])


def _sides(clients: np.ndarray, count: int, number: int, seed: int) -> tuple[int, np.ndarray, np.ndarray]:
    """`(client, sought, others)`: whose bare update is attacked, by whose examples readings are judged, and whose are known.

    Others are in random order, since only their first examples are looked at.
    """
    if not len(clients):
        raise NoAttack(
            "audit",
            given="a round without clients",
            expected="some",
            do="Use a larger cohort or less dropout.",
        )
    client = int(clients[number % len(clients)])
    others = np.setdiff1d(np.arange(count), clients)
    sought = clients
    if not len(others):
        sought, others = np.array([client]), np.setdiff1d(clients, [client])
    if not len(others):
        raise NoAttack(
            "audit",
            given="a population of one client",
            expected="at least two: an attacker knows the examples of others",
            do="Audit with canaries alone.",
        )
    return client, sought, np.random.default_rng((seed, number)).permutation(others)


@dataclass
class _Tally:
    """The results of attacks so far, target by target."""

    best: list[np.ndarray] = field(default_factory=list)
    nearest: list[np.ndarray] = field(default_factory=list)
    guesses: list[np.ndarray] = field(default_factory=list)
    errors: list[float] = field(default_factory=list)
    blind: list[float] = field(default_factory=list)
    exact: int = 0
    distinct: int = 0
    examples: int = 0
    readings: int = 0
    sure: int = 0
    wrong: int = 0
    by_chance: int = 0
    quoted: int = 0
    tolerance: float = 0.0

    def add(
        self,
        readings: np.ndarray,
        sure: int,
        examples: np.ndarray,
        known: np.ndarray,
        guess: np.ndarray,
        prior: Prior,
    ) -> None:
        """Compare readings, best first, and the guess with the examples that were in it."""
        near = nearest(readings, examples)
        hit = _exact(near, prior)
        self.best.append(readings[0].astype(np.float32))
        self.nearest.append(examples[near.index[0]].astype(np.float32))
        self.guesses.append(guess.astype(np.float32))
        self.errors.append(float(near.mse[0]))
        self.blind.append(float(nearest(guess[None], examples).mse[0]))
        self.exact += int(hit[0])
        self.distinct += len(np.unique(near.index[hit]))
        self.examples += len(examples)
        self.readings += len(readings)
        self.sure += sure
        self.wrong += int((~hit[:sure]).sum())
        self.by_chance += int(_exact(nearest(known, examples), prior).sum())
        self.quoted += len(known)
        self.tolerance = prior.tolerance

    def compared(self) -> Comparison:
        """Errors compared with those of the blind guess."""
        return not_better_than_blind(self.errors, self.blind)

    def reads(self) -> Reads:
        """How many examples were read exactly."""
        return Reads(
            len(self.best),
            self.exact,
            self.distinct,
            self.examples,
            self.readings,
            self.sure,
            self.wrong,
            self.by_chance / self.quoted,
            self.quoted,
            self.tolerance,
        )


def _exact(near: Nearest, prior: Prior) -> np.ndarray:
    return near.largest <= prior.tolerance


def _plain(reads: Reads) -> dict[str, Any]:
    return {**reads.__dict__, "p": reads.p}


def _lower(sentence: str) -> str:
    return sentence[:1].lower() + sentence[1:]
