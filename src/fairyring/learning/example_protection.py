"""A plan's privacy promise for every example: whether the plan's parts can keep it, and the noise in every local step that does.

What leaves a client is computed from its noisy steps alone, so it reveals no more than they do. The stages that the update then goes
through need not fulfil anything, except that they must not weight it by the client's number of examples, which has no noise.
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

# The sums of a step have room for a batch of this many times the usual size. A larger one costs accuracy, never privacy.
ROOM = 16


def check_parts(local: LocalTraining, aggregation: Stage, budget: Budget | None) -> None:
    """Raise `PlanError` unless a plan has both noise in every local step and a budget for every example, or neither.

    With both, the aggregation must be without noise, and the noise of local steps must be `gaussian_noise()` without a secure sum.
    """
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
            do="Leave the noise out of aggregation; or leave examples= out of local, for a budget for every device.",
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
    """Raise `PlanError` unless every client has the same weight: a number of examples would be sent without noise."""
    if not aggregation.spec.uniform:
        raise PlanError(
            "Plan aggregation",
            given="updates weighted by examples, and a budget for every example",
            expected="the same weight for every client: a weight would reveal a client's number of examples without noise",
            do="Use aggregation=fr.chain(fr.weight_uniformly()). Larger clients move further anyway, because their steps are "
            "divided by the same batch_size.",
        )


def keep(
    budget: Budget, local: LocalTraining, rule: Cohort, parameters: int, auxiliaries: tuple[Auxiliary, ...]
) -> tuple[Protection, BoundStage]:
    """The promise, and the stages of each example's gradient, bound with the noise that keeps it.

    Args:
        budget: a budget for every example.
        local: local training with stages for examples.
        rule: the cohort sampler, which decides in which rounds a client takes part.
        parameters: length of a gradient.
        auxiliaries: what travels with a gradient: the weight, the loss and the metrics.

    Raises:
        PlanError: the parts cannot keep the promise.
    """
    assert local.examples is not None
    assert local.examples.noise is not None
    stage = complete(local.examples)
    assert stage.with_noise is not None
    sampled = local.rate is not None
    spec = MessageSpec(
        parameters, local.batch_size * (ROOM if sampled else 1), auxiliaries, public_count=not sampled
    )  # the size of a Poisson batch is secret
    steps = (local.steps if sampled else local.epochs) or 1
    participation = _participation(local, rule)
    multiplier = local.examples.noise.multiplier
    if multiplier is None:
        stage.with_noise(1.0, 0).bind(spec)  # refuses what does not fit before the slow calibration
        multiplier = multiplier_for(budget, participation, steps)
    bound = stage.with_noise(multiplier, 0).bind(spec)
    noise = bound.spec.noise
    assert noise is not None
    inflation = noise.l2 / noise.scale / norm_before_noise(stage, spec)
    return Protection(
        budget, participation, Release("gaussian", multiplier, steps=steps), inflation, 0.0
    ), bound


def _participation(local: LocalTraining, rule: Cohort) -> AnyParticipation:
    """What the promise rests on.

    With Poisson batches that is their sampling, and the client is taken to be in every round. Otherwise it is how often a client takes
    part.
    """
    if local.rate is not None:
        return PoissonSampled(local.rate)
    return AtMost(None, rule.separation) if isinstance(rule, InTurn) else AtMost()
