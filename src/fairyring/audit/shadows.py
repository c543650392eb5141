"""Shadow runs: a plan is run many times, each time with another half of the clients, by programs that are compiled once."""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.core.keys import of_first_model, root
from fairyring.core.program import interruptible_jit
from fairyring.evaluation import Evaluator
from fairyring.learning.plan import Plan
from fairyring.lowering import Hardware, hardware
from fairyring.population import Population
from fairyring.privacy.membership import Membership, balanced, check_shadows, judged, lira
from fairyring.privacy.participation import AtMost
from fairyring.records.states import ClientStates
from fairyring.rounds.cohorts import CohortSampler, RoundCohort
from fairyring.rounds.feasibility import check_participation
from fairyring.rounds.release import release
from fairyring.rounds.server_program import Sums
from fairyring.rounds.spending import RunSpending
from fairyring.rounds.total import Total
from fairyring.rounds.worker import Work
from fairyring.simulation import Assembly, CompiledWorker, assemble
from fairyring.task import Metric, Task

NOBODY_DRAWN = np.zeros(0, np.int64)
_SURE = 15.0  # bound on the confidence: beyond it float32 resolves nothing


def membership(
    plan: Plan,
    population: Population,
    *,
    rounds: int,
    shadows: int = 64,
    targets: Sequence[int] | None = None,
    looks: int = 1,
    seed: int = 0,
    confidence: float = 0.999,
    processors: int | None = None,
    init: Any = None,
) -> Membership:
    """Membership inference: try to tell from a plan's models which clients took part. This is LiRA with a client as the unit.

    The plan is run `shadows` times, each time with a random half of the targets. Targets that are not in a run are sampled as
    always and send nothing, and no other client drops out, whatever a run's dropout. Under a privacy guarantee they count as clients
    that send zeros, as its neighbours do. An observer of all models then guesses for each run and client whether it was in, from
    what the other runs showed: how well the last model and a few before it do on the client's examples and, where it is no secret
    who is sampled, how much better they do after rounds with the client than before them.

    A private plan's shadow runs have fresh noise and a ledger in memory, and spend nothing of a run's budget. **No privacy
    guarantee covers the result**: it comes from runs over the same data that are in no budget.

    Args:
        plan: that is attacked, with or without a budget.
        population: over which it runs.
        rounds: of each run; with a budget, at most as many as it allows.
        shadows: how many runs to make, at least 8.
        targets: indices of the clients whose membership is guessed; None for all that have examples. All others take part in
            every run.
        looks: how many models the attack looks at one by one, evenly spread, the last one among them.
        seed: of everything but the noise.
        confidence: of the lower bound on epsilon.
        processors: on a CPU, how many cores to use; None for all.
        init: parameters of the first model, if it is not the plan's.

    Raises:
        PlanError: an argument is out of range, or the plan and the population do not fit together.
        BudgetSpent: so many rounds are not within the budget.
    """
    check_shadows(shadows, confidence)
    rounds = whole_number("membership rounds", rounds)
    looks = whole_number("membership looks", looks, most=rounds)
    plan.task.validate(population)
    on = hardware(plan.layout.size, processors=processors)
    clients = _targets(population, targets)
    dice = np.random.default_rng(seed)
    members = balanced(shadows, len(clients), dice)
    seeds = dice.integers(0, 2**31 - 1, shadows).tolist()
    runs = _Shadows(plan, population, on, rounds, seeds[0], init)
    at = sorted({max(1, round(rounds * (i + 1) / looks)) for i in range(looks)})
    judge = Evaluator(confident(plan.task), population.select(clients), on)
    secret = plan.protection is not None and not isinstance(plan.protection.participation, AtMost)
    statistics = np.zeros((shadows, len(clients), len(at) + (not secret)))
    for number, own in enumerate(seeds):
        away = np.zeros(len(population), bool)
        away[clients[~members[number]]] = True
        before, gain, turns = np.zeros(len(clients)), np.zeros(len(clients)), np.zeros(len(clients))
        for done, (cohort, params) in enumerate(runs.models(own, away)):
            if secret and done not in at:
                continue
            fares = judge(params).client_metrics["confidence"].astype(np.float64)
            drawn = np.isin(clients, cohort.sampled) & (done > 0)
            gain += np.where(drawn, fares - before, 0.0)
            turns += drawn
            before = fares
            if done in at:
                statistics[number, :, at.index(done)] = fares
        if not secret:
            # A sum in units of its spread over rounds, so that runs with more turns of a client are comparable with others.
            statistics[number, :, -1] = gain / np.sqrt(np.maximum(turns, 1))
    return judged(
        lira(statistics, members),
        members,
        rounds=rounds,
        # A guarantee to every example bounds less for a client that has many.
        claimed=None if plan.example_stages is not None else runs.spent,
        delta=plan.privacy.delta if plan.privacy is not None else 0.0,
        confidence=confidence,
        unit=plan.privacy.unit if plan.privacy is not None else "device",
    )


def confident(task: Task) -> Task:
    """The task with the attack's statistic as its only metric: `log(p / (1 - p))` with `p = exp(-loss)` of each example.

    For classes p is the probability of the right one; its logit, unlike the loss, is nearly normal over models.
    """

    def measure(outputs: Any, batch: Any) -> tuple[jax.Array, jax.Array]:
        loss, weight = task.loss(outputs, batch)
        odds = -loss - jnp.log(-jnp.expm1(-jnp.maximum(loss, 1e-7)))
        return jnp.clip(odds, -_SURE, _SURE), weight

    metrics = {"confidence": Metric(measure, math.inf, weight_bound=task.loss_weight_bound)}
    return replace(task, metrics=metrics, pooled={})


class _Shadows:
    """Runs of one plan with some clients left out, on one engine."""

    def __init__(
        self, plan: Plan, population: Population, on: Hardware, rounds: int, seed: int, init: Any
    ) -> None:
        self.plan, self.population, self.rounds = plan, population, rounds
        self.parts: Assembly = assemble(plan, population, root(seed), on, init=init)
        self.first = interruptible_jit(lambda key: plan.first_state(key, init))
        noise = plan.bound.spec.noise
        length = plan.message_shape.vector.shape[0]
        counts = noise is not None and length > noise.coordinates

        def zeros(sums: Sums, away: jax.Array) -> Sums:
            message, reported = sums
            vector = (
                message.vector.at[-1].add(away.astype(message.vector.dtype)) if counts else message.vector
            )
            return Sums(message._replace(vector=vector), reported + away)

        self.zeros = interruptible_jit(zeros)
        if plan.protection is not None:
            check_participation(plan, CohortSampler(plan.rule, population, seed), rounds)
        self.spent: float | None = None

    def models(self, seed: int, away: np.ndarray) -> Iterator[tuple[RoundCohort, Any]]:
        """Every model of a run with some clients left out (`away`, bool `[clients]`); the first is that before any round.

        With each model comes the cohort of its round; for the first an empty one.
        """
        key = root(seed)
        cohorts = CohortSampler(self.plan.rule, self.population, seed)
        states = ClientStates(len(self.population), self.parts.own) if self.parts.has_states else None
        assert self.parts.rows is not None
        worker = _Without(
            CompiledWorker(self.parts.engine, self.parts.rows, cohorts, key, states), self.zeros
        )
        program = self.parts.program.with_root(key)
        state = program.placed(self.first(of_first_model(key)))
        spending = RunSpending(self.plan, None) if self.plan.protection else None
        try:
            yield RoundCohort(0, NOBODY_DRAWN, NOBODY_DRAWN), state.params
            for number in range(1, self.rounds + 1):
                cohort = cohorts.of(number)
                clients = len(cohort.sampled)  # clients that are left out count, with zeros
                noise = spending.begin(number, clients, clients) if spending else None
                here = cohort._replace(staying=cohort.sampled[~away[cohort.sampled]])
                total = worker.accumulate(Work(here, state, noise))
                state = release(program, state, here, total, noise).state
                yield cohort, state.params
            if spending is not None:
                self.spent = spending.spent().epsilon
        finally:
            if spending is not None:
                spending.close(finished=True)


class _Without:
    """A worker that counts sampled clients that do not stay as clients that sent zeros."""

    def __init__(self, worker: CompiledWorker, zeros: Callable[[Sums, np.int32], Sums]) -> None:
        self.worker, self.zeros = worker, zeros

    def accumulate(self, work: Work) -> Total:
        """The sum, with zeros from the clients that are left out."""
        away, total = len(work.cohort.sampled) - len(work.cohort.staying), self.worker.accumulate(work)
        first, *rest = total.parts
        return total._replace(parts=(self.zeros(first, np.int32(away)), *rest))


def _targets(population: Population, targets: Sequence[int] | None) -> np.ndarray:
    """The clients whose membership is guessed, ascending: int64 `[n]`."""
    with_examples = np.flatnonzero(np.asarray(population.sizes) > 0)
    if targets is None:
        return with_examples
    chosen = np.unique(np.asarray(targets, np.int64))
    if not len(chosen) or len(chosen) != len(targets) or not np.isin(chosen, with_examples).all():
        raise PlanError(
            "membership targets",
            given=f"{len(targets)} clients" + (", some twice or without examples" if len(targets) else ""),
            expected="different clients of the population that have examples",
            do="Leave targets out to take all of them.",
        )
    return chosen
