"""What DP-SGD spends of an example: against dp-accounting's events, and against what shuffled batches surely spend."""

import math
from typing import Any

import dp_accounting as dp
import numpy as np
import pytest
from dp_accounting.pld import PLDAccountant
from dp_accounting.rdp import RdpAccountant
from scipy.special import log_ndtr

from fairyring.core.errors import PlanError
from fairyring.privacy import accounting, participation
from fairyring.privacy.examples import (
    Batches,
    DrawnBatches,
    PoissonBatches,
    ShuffledBatches,
    calibrate,
    epsilon,
    spent,
)

DELTA = 1e-5
ADD_OR_REMOVE = dp.NeighboringRelation.ADD_OR_REMOVE_ONE


@pytest.mark.parametrize(
    ("multiplier", "rate", "steps"), [(1.1, 256 / 60_000, 600), (0.8, 0.05, 30), (4.0, 0.5, 200)]
)
def test_poisson_batches_agree_with_dp_accountings_dp_sgd(multiplier: float, rate: float, steps: int) -> None:
    step = dp.PoissonSampledDpEvent(rate, dp.GaussianDpEvent(multiplier))
    event = dp.SelfComposedDpEvent(step, steps)
    ours = epsilon(multiplier, steps=steps, delta=DELTA, batches=PoissonBatches(rate)).epsilon
    assert ours == pytest.approx(PLDAccountant(ADD_OR_REMOVE).compose(event).get_epsilon(DELTA), rel=1e-6)
    assert ours <= RdpAccountant(neighboring_relation=ADD_OR_REMOVE).compose(event).get_epsilon(DELTA)


def test_a_published_value() -> None:
    """Abadi and others 2016: 10,000 steps at a rate of 0.01 with noise 4 spend 1.26 at delta 1e-5, by moments.

    Distributions of the loss give less.
    """
    result = epsilon(4.0, steps=10_000, delta=1e-5, batches=PoissonBatches(0.01)).epsilon
    assert 0.9 < result < 1.26


@pytest.mark.parametrize(("multiplier", "epochs", "per_epoch"), [(1.0, 1, 50), (3.0, 20, 10), (10.0, 100, 1)])
def test_shuffled_batches_are_a_gaussian_an_epoch(multiplier: float, epochs: int, per_epoch: int) -> None:
    batches = ShuffledBatches(per_epoch)
    result = epsilon(multiplier, steps=epochs * per_epoch, delta=DELTA, batches=batches)
    assert result.epsilon == pytest.approx(
        dp.get_epsilon_gaussian(multiplier / math.sqrt(epochs), DELTA), rel=1e-9
    )
    events = PLDAccountant(ADD_OR_REMOVE).compose(
        dp.SelfComposedDpEvent(dp.GaussianDpEvent(multiplier), epochs)
    )
    assert result.epsilon == pytest.approx(events.get_epsilon(DELTA), abs=1e-4)
    # An epoch that was begun counts whole.
    begun = epsilon(multiplier, steps=(epochs - 1) * per_epoch + 1, delta=DELTA, batches=batches)
    assert begun.epsilon == result.epsilon


@pytest.mark.parametrize(
    ("multiplier", "per_epoch", "delta"), [(0.5, 10_000, 1e-5), (0.4, 1000, 1e-5), (0.6, 1000, 1e-3)]
)
def test_a_secret_order_is_worth_nothing_to_speak_of(multiplier: float, per_epoch: int, delta: float) -> None:
    """Chua and others 2024: all other gradients point the other way, and one looks at the largest sum.

    With the example the batch it is in sums to 2 more than the others, without to 1 more.
    """
    bounds = np.linspace(0, 2 + 6 * multiplier, 400) / multiplier
    others = (per_epoch - 1) * log_ndtr(bounds)
    with_it = -np.expm1(log_ndtr(bounds - 2 / multiplier) + others)
    without = -np.expm1(log_ndtr(bounds - 1 / multiplier) + others)
    surely = float(np.log((with_it - delta)[with_it > delta] / without[with_it > delta]).max())
    result = epsilon(multiplier, steps=per_epoch, delta=delta, batches=ShuffledBatches(per_epoch)).epsilon
    assert surely <= result <= surely * 1.02
    coin = epsilon(multiplier, steps=per_epoch, delta=delta, batches=PoissonBatches(1 / per_epoch)).epsilon
    assert coin < surely / 1.8  # what shuffled batches are often said to spend


def test_drawn_batches_are_a_cohort_of_examples() -> None:
    result = epsilon(2.0, steps=60, delta=DELTA, batches=DrawnBatches(10, 100))
    assert result.epsilon == pytest.approx(6.039, abs=2e-3)
    assert result.relation == "replace one example"


def test_steps_with_different_noise_are_added_up() -> None:
    counts = {2.0: 30, 3.0: 20}
    coins = spent(counts, delta=DELTA, batches=PoissonBatches(0.05)).epsilon
    theirs = PLDAccountant(ADD_OR_REMOVE)
    for multiplier, steps in counts.items():
        theirs.compose(dp.PoissonSampledDpEvent(0.05, dp.GaussianDpEvent(multiplier)), steps)
    assert coins == pytest.approx(theirs.get_epsilon(DELTA), rel=1e-6)
    # Of five epochs of ten steps an example's five steps are at worst all among the thirty with less noise.
    shuffled = spent(counts, delta=DELTA, batches=ShuffledBatches(10)).epsilon
    assert shuffled == pytest.approx(dp.get_epsilon_gaussian(2 / math.sqrt(5), DELTA), rel=1e-9)
    assert spent({}, delta=DELTA, batches=ShuffledBatches(10)).epsilon == 0


@pytest.mark.dealt(3, "batches")
@pytest.mark.parametrize("batches", [PoissonBatches(0.02), DrawnBatches(20, 1000), ShuffledBatches(50)])
def test_a_calibrated_training_fits_and_with_less_noise_does_not(batches: Batches) -> None:
    least = calibrate(epsilon=3.0, delta=DELTA, steps=250, batches=batches)
    assert epsilon(least, steps=250, delta=DELTA, batches=batches).epsilon <= 3.0 * (1 + 1e-9)
    assert epsilon(least * 0.999, steps=250, delta=DELTA, batches=batches).epsilon > 3.0


@pytest.mark.parametrize(
    ("batches", "relation", "words"),
    [
        (
            PoissonBatches(0.1),
            "one example replaced by none (zero-out)",
            "by its own coin, of probability 0.1",
        ),
        (DrawnBatches(5, 50), "replace one example", "5 of 50 examples drawn without replacement"),
        (ShuffledBatches(12), "zero-out", "no amplification by sampling"),
    ],
)
def test_the_words_are_of_examples(batches: Batches, relation: str, words: str) -> None:
    result = epsilon(2.0, steps=24, delta=DELTA, batches=batches)
    assert result.unit == "example"
    text = str(result)
    assert "for one example" in text
    assert relation in text
    assert words in text
    assert "device" not in text


def test_refusals() -> None:
    usual: dict[str, Any] = {"steps": 10, "delta": DELTA}
    wrong: list[Any] = [PoissonBatches(0.0), PoissonBatches(1.1), PoissonBatches(math.nan)]
    drawn: list[Any] = [(0, 3), (4, 3), (1.5, 3)]
    cut: list[Any] = [0, 2.5, math.inf]
    wrong += [DrawnBatches(*sizes) for sizes in drawn] + [ShuffledBatches(steps) for steps in cut]
    for batches in wrong:
        with pytest.raises(PlanError, match="Batches"):
            epsilon(1.0, batches=batches, **usual)
        with pytest.raises(PlanError, match="Batches"):
            calibrate(epsilon=1.0, batches=batches, **usual)
    for change, what in (({"steps": 0}, "rounds"), ({"delta": 0.0}, "delta")):
        with pytest.raises(PlanError, match=what):
            epsilon(1.0, batches=ShuffledBatches(5), **(usual | change))
    with pytest.raises(PlanError, match="noise multiplier"):
        epsilon(0.0, batches=ShuffledBatches(5), **usual)


def test_an_example_is_accounted_for_as_a_device_that_takes_part_as_often() -> None:
    ours = epsilon(2.0, steps=40, delta=DELTA, batches=PoissonBatches(0.1)).epsilon
    device = accounting.epsilon(2.0, rounds=40, delta=DELTA, participation=participation.PoissonSampled(0.1))
    assert ours == device.epsilon
