"""A unit that one example alone activates gives it away, whoever else is in the sum; and it is known which units these are."""

import math
from functools import cache

import numpy as np
import pytest

from fairyring.core.errors import PlanError
from fairyring.privacy.first_layer import Candidates, read_first_layer
from fairyring.privacy.prior import Prior
from fairyring.privacy.reads import Reads, best_guess, nearest

UNITS = 120


@cache
def examples() -> tuple[np.ndarray, Prior]:
    """Digits to be sought, `[400, 64]` in sixteenths, and what is known from the other ones."""
    sets = pytest.importorskip("sklearn.datasets")
    images = (sets.load_digits().data / 16.0).astype(np.float64)
    return images[:400], Prior.of(images[400:])


@cache
def layer() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Weights, bias and outgoing weights to ten classes of a layer as it is at first."""
    rng = np.random.default_rng(3)
    return (
        rng.uniform(-0.125, 0.125, (64, UNITS)),
        rng.uniform(-0.6, 0.1, UNITS),
        rng.standard_normal((UNITS, 10)) / 11,
    )


def signals(example: np.ndarray) -> np.ndarray:
    """How an example moves the bias of each unit, under each label: `[10, units]`."""
    weight, bias, out = layer()
    before = example @ weight + bias
    logits = np.maximum(before, 0) @ out
    share = np.exp(logits - logits.max())
    return (share / share.sum() - np.eye(10)) @ out.T * (before > 0)


def change(chosen: np.ndarray, factors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """What examples with labels by their number make of the layer together, each by a factor of its own."""
    sought, _ = examples()
    moved = np.stack([f * signals(sought[k])[k % 10] for k, f in zip(chosen, factors, strict=True)])
    return sought[chosen].T @ moved, moved.sum(axis=0)


def read(chosen: np.ndarray, result: Candidates) -> tuple[np.ndarray, int]:
    """Which readings are an example of the sum, and how many different ones."""
    sought, prior = examples()
    near = nearest(result.examples, sought[chosen])
    hit = near.largest <= prior.tolerance
    return hit, len(np.unique(near.index[hit]))


@pytest.mark.parametrize("count", [1, 5, 20])
def test_examples_are_read_out_of_a_sum_and_taken_off_it(count: int) -> None:
    rng = np.random.default_rng(count)
    chosen = rng.choice(400, count, replace=False)
    weight, bias = change(chosen, rng.uniform(0.01, 0.1, count))
    plain = read_first_layer(weight, bias, examples()[1])
    peeled = read_first_layer(weight, bias, examples()[1], signals=signals)
    for result in (plain, peeled):
        hit, _ = read(chosen, result)
        assert result.sure >= 1
        assert hit[: result.sure].all()  # what the attack is sure of is so
        assert (np.diff(result.confidence) <= 0).all()
    _, one_by_one = read(chosen, plain)
    _, all_of_them = read(chosen, peeled)
    assert all_of_them == count if count < 20 else all_of_them > one_by_one > 0


def test_the_ranking_knows_the_grid_and_how_usual_an_example_looks() -> None:
    sought, prior = examples()
    rng = np.random.default_rng(0)
    shares = rng.dirichlet(np.ones(3), 200)
    mixed = np.einsum("nk,nkf->nf", shares, sought[rng.integers(0, 400, (200, 3))])
    for error in (1e-6, 0.005, 0.01):
        seen = sought[:200] + error * rng.standard_normal((200, 64))
        true = prior.evidence(seen, np.full(200, error))
        false = prior.evidence(mixed, np.full(200, error))
        assert np.median(true) > 15
        assert (true > 0).mean() > 0.98
        assert (false > 17).mean() < 0.01
    # An error as wide as a step leaves nothing to tell them apart by but their looks; noise is out of range.
    noise = rng.standard_normal((200, 64))
    assert (prior.evidence(noise, np.full(200, 1e-6)) < 0).all()


def test_without_a_grid_units_that_agree_tell() -> None:
    rng = np.random.default_rng(1)
    others, sought = rng.standard_normal((300, 20)), rng.standard_normal((6, 20))
    prior = Prior.of(others)
    assert prior.grid is None
    part = rng.random((6, 40)) < 0.25
    part[:, :4] = np.eye(6)[:, :1].repeat(4, axis=1) > 0  # four units that the first example has for itself
    moved = part * rng.standard_normal((6, 40))
    result = read_first_layer(sought.T @ moved, moved.sum(axis=0), prior)
    np.testing.assert_allclose(result.examples[0], sought[0], atol=1e-6)
    assert result.sure >= 1


def test_noise_leaves_nothing_to_be_sure_of() -> None:
    sought, prior = examples()
    rng = np.random.default_rng(2)
    for level in (0.3, 3.0):
        chosen = rng.choice(400, 20, replace=False)
        weight, bias = change(chosen, np.full(20, 0.05))
        noise = level * float(np.abs(bias).max())
        noisy = weight + noise * rng.standard_normal(weight.shape), bias + noise * rng.standard_normal(UNITS)
        result = read_first_layer(*noisy, prior, noise=noise, signals=signals)
        assert result.sure == 0
        assert read(chosen, result)[1] == 0
        assert np.isfinite(result.examples).all()
        assert result.examples.min() >= sought.min()
        assert result.examples.max() <= sought.max()


def test_a_layer_that_nothing_reached_tells_nothing() -> None:
    prior = examples()[1]
    for weight, bias in [
        (np.zeros((64, 3)), np.zeros(3)),
        (np.full((64, 3), np.nan), np.ones(3)),
        (np.ones((3, 64)), np.ones(3)),
        (np.ones((64, 3)), np.ones((3, 1))),
    ]:
        with pytest.raises(PlanError, match="finite changes"):
            read_first_layer(weight, bias, prior)
    with pytest.raises(PlanError, match="n >= 1"):
        Prior.of(np.zeros((0, 4)))


def test_the_fair_guess_is_a_mean_against_one_and_an_example_against_many() -> None:
    sought, _ = examples()
    mean = sought.mean(axis=0)
    np.testing.assert_allclose(best_guess(sought, 1), mean, atol=1e-6)
    quoted = best_guess(sought, 200)
    assert nearest(quoted[None], sought).largest[0] < 1e-6
    rest = sought[np.abs(sought - quoted).max(axis=1) > 1e-6]
    assert nearest(quoted[None], rest).mse[0] < nearest(mean[None], rest).mse[0]


def test_exact_reads_are_set_against_chance() -> None:
    result = Reads(12, 3, 9, 240, 600, 5, 0, 1 / 999, 999, 0.1)
    share = 2 / 1000
    assert result.p == pytest.approx(sum(_binomial(12, k, share) for k in range(3, 13)))
    assert not result.none
    assert result.statement("releases") == (
        f"The best-ranked reading is an example, exactly, in 3 of 12 releases (by chance 0.012, p {result.p:.2g}); "
        "9 of the 240 examples in them are among all 600 readings."
    )
    nothing = Reads(12, 0, 0, 240, 600, 0, 0, 0.0, 999, 0.1)
    assert nothing.none
    assert nothing.p == pytest.approx(1.0)
    # One example that no quote would have got is not nothing, wherever it is ranked.
    assert not Reads(12, 0, 1, 240, 600, 0, 0, 0.0, 999, 0.1).none
    assert Reads(12, 0, 1, 240, 600, 0, 0, 2 / 999, 999, 0.1).none
    with pytest.raises(PlanError, match="m >= 1"):
        nearest(np.zeros((1, 3)), np.zeros((0, 3)))


def _binomial(n: int, k: int, p: float) -> float:
    return math.comb(n, k) * p**k * (1 - p) ** (n - k)
