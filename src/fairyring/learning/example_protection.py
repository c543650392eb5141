"""A plan's promise to every example: whether its parts add up to it, and the noise in every local step that keeps it.

What leaves a client is made of noisy steps alone, and tells no more than they do. So nothing is asked of the stages its update
then goes through, but that they do not weigh it by what is not noisy: how many examples it has.
"""

from fairyring.aggregation import complete
from fairyring.aggregation.contract import Auxiliary, BoundStage, MessageSpec, Stage
from fairyring.core.errors import PlanError
from fairyring.learning.cohort import Cohort, InTurn
from fairyring.learning.local import LocalTraining
from fairyring.learning.protection import Protection, multiplier_for, norm_before_noise
from fairyring.privacy.budget import Budget
from fairyring.privacy.participation import AnyParticipation, AtMost, PoissonSampled
from fairyring.privacy.release import Release

# Batches of so many times the usual size have room in the sums of a step: more, and only their accuracy suffers.
ROOM = 16


def check_parts(local: LocalTraining, aggregation: Stage, budget: Budget | None) -> None:
    """Raise `PlanError` unless a plan has noise in every local step and a budget for examples, or neither."""
    wanted = budget is not None and budget.unit == "example"
    stage = local.examples
    if wanted != (stage is not None):
        raise PlanError(
            "Plan privacy",
            given="a budget for every example, and no stages for examples"
            if wanted
            else "stages for examples, and "
            + ("no budget" if budget is None else f"a budget for every {budget.unit}"),
            expected="both or neither",
            do="Give LocalTraining(examples=fr.chain(fr.clip(1.0), fr.gaussian_noise()))."
            if wanted
            else 'Give privacy=fr.Budget(epsilon, delta, rounds=..., unit="example").',
        )
    if stage is None:
        return
    if aggregation.noise is not None:
        raise PlanError(
            "Plan aggregation",
            given=f"{aggregation.noise.mechanism} noise in it, and noise in every local step",
            expected="one of the two: a budget counts what one unit spends",
            do="Leave the noise out of aggregation; or examples= out of local, for a budget for every device.",
        )
    noise = stage.noise
    if noise is None or noise.mechanism != "gaussian" or stage.masking is not None:
        raise PlanError(
            "LocalTraining examples",
            given="a secure sum"
            if stage.masking
            else "no noise"
            if noise is None
            else f"{noise.mechanism} noise",
            expected="gaussian_noise(), which each client adds to its own sums",
            do="Use fr.chain(fr.clip(1.0), fr.gaussian_noise()).",
        )


def check_weights(aggregation: BoundStage) -> None:
    """Raise `PlanError` unless every client weighs the same: a weight by examples would be sent without noise."""
    if not aggregation.spec.uniform:
        raise PlanError(
            "Plan aggregation",
            given="updates weighted by examples, and a budget for every example",
            expected="every client counted once: how many examples one has would be told without noise",
            do="Use aggregation=fr.chain(fr.weight_uniformly()). Larger clients move further as it is, for their steps are "
            "divided by the same batch_size.",
        )


def keep(
    budget: Budget, local: LocalTraining, rule: Cohort, parameters: int, auxiliaries: tuple[Auxiliary, ...]
) -> tuple[Protection, BoundStage]:
    """The promise, and the stages of each example's gradient, bound with the noise that keeps it.

    Args:
        budget: for examples.
        local: with stages for examples.
        rule: in which rounds a client takes part.
        parameters: length of a gradient.
        sides: what stands beside it: the weight, loss and metrics.

    Raises:
        PlanError: the parts cannot keep it.
    """
    assert local.examples is not None
    assert local.examples.noise is not None
    stage = complete(local.examples)
    assert stage.with_noise is not None
    sampled = local.rate is not None
    spec = MessageSpec(
        parameters, local.batch_size * (ROOM if sampled else 1), auxiliaries, public_count=not sampled
    )  # of a Poisson batch the size is a secret
    steps = (local.steps if sampled else local.epochs) or 1
    participation = _participation(local, rule)
    multiplier = local.examples.noise.multiplier
    if multiplier is None:
        stage.with_noise(1.0, 0).bind(spec)  # what does not fit is told before the noise is calibrated
        multiplier = multiplier_for(budget, participation, steps)
    made = stage.with_noise(multiplier, 0).bind(spec)
    noise = made.spec.noise
    assert noise is not None
    inflation = noise.l2 / noise.scale / norm_before_noise(stage, spec)
    return Protection(
        budget, participation, Release("gaussian", multiplier, steps=steps), inflation, 0.0
    ), made


def _participation(local: LocalTraining, rule: Cohort) -> AnyParticipation:
    """What the promise rests on: the coins of batches, of a client that takes part in every round; or, where there are none,
    how often a client takes part."""
    if local.rate is not None:
        return PoissonSampled(local.rate)
    return AtMost(None, rule.separation) if isinstance(rule, InTurn) else AtMost()
