"""Feasibility checks: whether a run can keep what its plan's privacy guarantee assumes of who takes part."""

import math

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.example_protection import ROOM
from fairyring.learning.plan import Plan
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.participation import FixedSize, PoissonSampled
from fairyring.rounds.cohorts import CohortSampler


def check_participation(plan: Plan, cohorts: CohortSampler, rounds: int, *, protocol: bool = False) -> None:
    """Raise `PlanError` unless the rounds and cohorts of a simulation are those that its plan's guarantee assumes.

    Args:
        plan: one with a budget.
        cohorts: of the run.
        rounds: of the run, including those it has had already.
        protocol: the secure sum is made of real messages, between parties that know each other.
    """
    protection = plan.protection
    assert protection is not None
    budget, participation, clients = protection.budget, protection.participation, len(cohorts.eligible)
    planned = plan.noise_request is not None and plan.noise_request.multiplier is None
    if planned and budget.rounds is not None and rounds > budget.rounds:
        raise PlanError(
            "rounds",
            given=f"{rounds}",
            expected=f"at most {budget.rounds}, which the noise was calibrated for",
            do=f"Set rounds={budget.rounds}, or Budget(rounds={rounds}): more noise a round.",
        )
    if isinstance(participation, FixedSize) and participation.population > clients:
        raise PlanError(
            "Budget population",
            given=f"{participation.population}",
            expected=f"at most {clients}, the clients that have examples: with fewer clients to hide among the guarantee is weaker",
            do=f"Set population={clients}.",
        )
    if isinstance(participation, PoissonSampled | FixedSize) and budget.unit == "device" and protocol:
        raise PlanError(
            "secure_sum",
            given="'protocol', for a guarantee that needs it to be a secret who took part",
            expected="'ideal', or a cohort in turn: the devices of a session, its server and whoever reads its transcript know "
            "who is in it",
            do="Use cohort=fr.cohort.in_turn(size, separation=...), whose guarantee needs no such secret.",
        )
    if (
        isinstance(participation, PoissonSampled | FixedSize)
        and budget.unit == "device"
        and cohorts.own_dropout
    ):
        raise PlanError(
            "dropout",
            given="a probability of its own for each client, for a guarantee that counts on sampling",
            expected="one for all: how often a client is in a sum would tell who it is, and is no uniform or Poisson draw",
            do="Give dropout= one number, or use cohort=fr.cohort.in_turn(size, separation=...).",
        )
    if isinstance(participation, PoissonSampled) and budget.unit == "device":
        _check_sizes(plan, participation, cohorts, rounds)


def check_example_counts(plan: Plan, sizes: np.ndarray) -> None:
    """Raise `PlanError` unless clients hold as many examples as a guarantee for every example needs.

    Args:
        plan: one with a budget for examples.
        sizes: how many examples each client has that may take part, int `[n]`.
    """
    rate, usual = plan.local.rate, plan.local.batch_size
    if sizes.min(initial=2) < 2:
        raise PlanError(
            "a client with a single example",
            given="a budget for every example",
            expected="at least two on each client: without its one example a client would never be sampled, which shows",
            do="Leave the client out, or merge it with another one.",
        )
    longest = int(sizes.max(initial=0))
    if rate is not None and rate * longest + 8 * math.sqrt(rate * longest) > ROOM * usual:
        raise PlanError(
            "LocalTraining batch_size",
            given=f"{usual}, where the largest client's batches hold about {rate * longest:.0f} of {longest} examples",
            expected="about as many: their sums are divided by batch_size, and would not fit their whole numbers",
            do=f"Set batch_size={max(1, round(rate * longest))}, or a smaller rate.",
        )


def _check_sizes(plan: Plan, participation: PoissonSampled, cohorts: CohortSampler, rounds: int) -> None:
    """Refuse a Poisson cohort where some round may show how many clients took part.

    Whether a cohort is cut at its `maximum`, and whether a sum of too few is withheld, depends on whether one client was drawn.
    If this happens with probability p in the whole run, the guarantee at delta becomes one at `delta + (1 + e^epsilon) p`: but for
    p, the run looks like one that never shows it, with the client and without. The share of delta that the accountant sets
    aside (`participation.aside`) must cover this.
    """
    clients, rate = len(cohorts.eligible), participation.rate
    maximum, minimum_cohort = plan.rule.maximum, plan.terms.minimum_cohort if plan.terms else 0
    epsilon = _epsilon(plan, rounds)
    assert plan.privacy is not None
    # In logarithms: e^epsilon may be beyond any float.
    allowed = math.exp(
        math.log(participation.aside * plan.privacy.delta / rounds) - float(_log1p_exp(epsilon))
    )
    # Neighbours have one client more or less: take the one for which it is likelier.
    cut = probability_beyond(clients + 1, rate, maximum)
    if cut > allowed / 2:
        raise PlanError(
            "poisson maximum",
            given=f"{maximum}, which a round of {clients} clients exceeds with probability {cut:.2g}",
            expected=f"at most {allowed / 2:.2g}, so that no observer of {rounds} rounds sees a cohort that was cut at this "
            "delta: it would be no Poisson sample",
            do=f"Set maximum={enough(clients + 1, rate, allowed / 2)}.",
        )
    if minimum_cohort <= 0:
        return
    stay = rate * (1 - cohorts.dropout)
    short = probability_below(clients - 1, stay, minimum_cohort)
    if short > allowed / 2:
        reach = largest_minimum_cohort(clients - 1, stay, allowed / 2)
        remedy = f"minimum_cohort={reach}, or a higher rate" if reach > 1 else "a higher rate"
        raise PlanError(
            "a Poisson cohort under a secure sum",
            given=f"sums that need {minimum_cohort} clients, of about {stay * clients:.3g} a round: one ends without a sum with "
            f"probability {short:.2g}",
            expected=f"at most {allowed / 2:.2g} in each of {rounds} rounds: that there was no sum shows how many took part, "
            "which the guarantee takes for a secret",
            do=f"Use {remedy}; or a cohort in turn, whose size is no secret; or no secure sum: noise is then "
            "released for an empty round, too.",
        )


def _epsilon(plan: Plan, rounds: int) -> float:
    """The most that this many rounds will spend."""
    protection = plan.protection
    assert protection is not None
    if math.isfinite(protection.budget.epsilon):
        return protection.budget.epsilon
    accountant = Accountant(protection.participation, protection.budget.delta)
    return accountant.spent({protection.release: rounds}).epsilon


def _log1p_exp(epsilon: float) -> float:
    return epsilon + math.log1p(math.exp(-epsilon))


def probability_beyond(clients: int, rate: float, maximum: int) -> float:
    """Probability that a binomial number of clients is above `maximum`."""
    from scipy.special import bdtrc  # scipy.stats takes a second to import

    return float(bdtrc(maximum, clients, rate)) if maximum < clients else 0.0


def probability_below(clients: int, rate: float, minimum_cohort: int) -> float:
    """Probability that a binomial number of clients is below `minimum_cohort`."""
    from scipy.special import bdtr

    return float(bdtr(minimum_cohort - 1, clients, rate)) if minimum_cohort <= clients else 1.0


def enough(clients: int, rate: float, allowed: float) -> int:
    """The least bound that is exceeded with at most this probability."""
    return next(
        n for n in range(int(rate * clients), clients + 1) if probability_beyond(clients, rate, n) <= allowed
    )


def largest_minimum_cohort(clients: int, rate: float, allowed: float) -> int:
    """The largest number that a round falls short of with at most this probability."""
    fitting = (
        n for n in range(int(rate * clients) + 1, 0, -1) if probability_below(clients, rate, n) <= allowed
    )
    return next(fitting, 0)
