"""Whether this driver can keep what a plan's promise claims of who takes part."""

from fairyring.core.errors import PlanError
from fairyring.learning.plan import Plan
from fairyring.privacy.participation import FixedSize, PoissonSampled
from fairyring.simulation.draws import Draws

RARE = 1e-9  # probability of a round that shows how many took part where that is a secret


def check_claims(plan: Plan, draws: Draws, rounds: int) -> None:
    """Raise `PlanError` unless rounds and cohorts of a simulation are those its plan's promise rests on."""
    protection = plan.protection
    assert protection is not None
    budget, participation, clients = protection.budget, protection.participation, len(draws.eligible)
    planned = plan.aggregation.noise is not None and plan.aggregation.noise.multiplier is None
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
    if isinstance(participation, PoissonSampled):
        most, rate = plan.rule.most, participation.rate
        beyond = probability_beyond(clients, rate, most)
        if beyond > RARE:
            raise PlanError(
                "poisson most",
                given=f"{most}, which a round of {clients} clients exceeds with probability {beyond:.2g}",
                expected=f"a bound exceeded with probability below {RARE:g}: a cohort that is cut is no Poisson sample",
                do=f"Set most={enough(clients, rate)}.",
            )


def probability_beyond(clients: int, rate: float, most: int) -> float:
    """Probability that a binomial number of clients is above `most`."""
    from scipy.special import bdtrc  # scipy.stats takes a second to import

    return float(bdtrc(most, clients, rate)) if most < clients else 0.0


def enough(clients: int, rate: float) -> int:
    """The least bound that is exceeded rarely enough."""
    from scipy.stats import binom

    return int(binom.isf(RARE, clients, rate))
