"""Whether this driver can keep what a plan's promise claims of who takes part."""

import math

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.learning.example_protection import ROOM
from fairyring.learning.plan import Plan
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.participation import FixedSize, PoissonSampled
from fairyring.rounds.draws import Draws


def check_claims(plan: Plan, draws: Draws, rounds: int, *, protocol: bool = False) -> None:
    """Raise `PlanError` unless rounds and cohorts of a simulation are those its plan's promise rests on.

    Args:
        plan: with a budget.
        draws: of the run.
        rounds: of the run, with those it has had already.
        protocol: the secure sum is made of real messages, between parties that know each other.
    """
    protection = plan.protection
    assert protection is not None
    budget, participation, clients = protection.budget, protection.participation, len(draws.eligible)
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
            expected=f"at most {clients}, the clients that have examples: fewer to hide among is a weaker promise",
            do=f"Set population={clients}.",
        )
    if isinstance(participation, PoissonSampled | FixedSize) and budget.unit == "device" and protocol:
        raise PlanError(
            "secure_sum",
            given="'protocol', for a promise that rests on nobody knowing who took part",
            expected="'ideal', or a cohort in turn: the devices of a session, its server and whoever reads its transcript know "
            "who is in it",
            do="Use cohort=fr.cohort.in_turn(size, separation=...), whose promise needs no such secret.",
        )
    if isinstance(participation, PoissonSampled) and budget.unit == "device":
        _check_sizes(plan, participation, draws, rounds)


def check_examples(plan: Plan, sizes: np.ndarray) -> None:
    """Raise `PlanError` unless clients hold as many examples as a promise to every example is made for.

    Args:
        plan: with a budget for examples.
        sizes: examples of each client that may take part.
    """
    rate, usual = plan.local.rate, plan.local.batch_size
    if sizes.min(initial=2) < 2:
        raise PlanError(
            "a client with a single example",
            given="a budget for every example",
            expected="at least two in each client: one without any is never sampled, which shows",
            do="Leave it out, or put it together with another client.",
        )
    longest = int(sizes.max(initial=0))
    if rate is not None and rate * longest + 8 * math.sqrt(rate * longest) > ROOM * usual:
        raise PlanError(
            "LocalTraining batch_size",
            given=f"{usual}, where the largest client's batches hold about {rate * longest:.0f} of {longest} examples",
            expected="about as many: their sums are divided by batch_size, and would not fit their whole numbers",
            do=f"Set batch_size={max(1, round(rate * longest))}, or a smaller rate.",
        )


def _check_sizes(plan: Plan, participation: PoissonSampled, draws: Draws, rounds: int) -> None:
    """Refuse a Poisson cohort of which some round may show how many took part.

    A cohort that is cut at its `maximum`, and a sum of too few that is not released, depend on whether one client was drawn.
    Where that happens with probability p in the whole run, the promise at delta is one at `delta + (1 + e^epsilon) p`:
    with and without a client the run is one that never shows it, but for p. The share of delta that the accountant leaves
    aside (`participation.aside`) must cover it.
    """
    clients, rate = len(draws.eligible), participation.rate
    maximum, minimum_cohort = plan.rule.maximum, plan.terms.minimum_cohort if plan.terms else 0
    epsilon = _epsilon(plan, rounds)
    assert plan.privacy is not None
    # In logarithms: e^epsilon may be beyond any float.
    allowed = math.exp(
        math.log(participation.aside * plan.privacy.delta / rounds) - float(_log1p_exp(epsilon))
    )
    # Of neighbours, which have one client more or less, the one for which it is likelier.
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
    stay = rate * (1 - draws.dropout)
    short = probability_below(clients - 1, stay, minimum_cohort)
    if short > allowed / 2:
        reach = largest_minimum_cohort(clients - 1, stay, allowed / 2)
        enough_for_any = f"minimum_cohort={reach}, or a higher rate" if reach > 1 else "a higher rate"
        raise PlanError(
            "a Poisson cohort under a secure sum",
            given=f"sums that need {minimum_cohort} clients, of about {stay * clients:.3g} a round: one ends without a sum with "
            f"probability {short:.2g}",
            expected=f"at most {allowed / 2:.2g} in each of {rounds} rounds: that there was no sum shows how many took part, "
            "which the promise takes for a secret",
            do=f"Use {enough_for_any}; or a cohort in turn, whose size is no secret; or no secure sum: noise is then "
            "released for an empty round, too.",
        )


def _epsilon(plan: Plan, rounds: int) -> float:
    """What so many rounds will spend at most."""
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
