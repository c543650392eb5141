"""Invasion fitness: the tables are what they say, costs show in the gradient, and what turns is told from what does not."""

from typing import Any

import numpy as np
import pytest

from fairyring.core.errors import EcologyError
from fairyring.ecology.invasion import (
    InvasionFitness,
    invasion_fitness,
    selection_jacobian,
    trait_table,
)
from fairyring.ecology.policies import tables
from fairyring.ecology.rotation import invasion_curl
from fairyring.ecology.settings import World2

WORLD = World2(
    width=32,
    capacity=128,
    sources=2,
    food_influx=2.0,
    minimum=8,
    founders=80,
    policy=tables(),
)


def test_tables_have_the_probabilities_they_promise() -> None:
    for emission, response in ((0.0, 0.0), (1.5, -2.0)):
        table = trait_table(WORLD, emission, response).reshape(3, 3, 2, 4).astype(float)
        odds = np.exp(WORLD.beta * table)
        p = odds / odds.sum(-1, keepdims=True)
        tumble, emit = p[..., 1] + p[..., 3], p[..., 2] + p[..., 3]
        np.testing.assert_allclose(p[..., 3], tumble * emit, rtol=1e-5)  # chosen independently
        np.testing.assert_allclose(tumble[0, :, 0], [0.5, 0.1, 0.02], rtol=1e-5)
        logit = np.log(tumble / (1 - tumble))
        np.testing.assert_allclose(logit[:, :, 1] - logit[:, :, 0], response, atol=1e-5)
        np.testing.assert_allclose(logit[2] - logit[1], 1.0, atol=1e-5)
        heard = np.log(emit / (1 - emit))
        np.testing.assert_allclose(heard[:, 0, 0], np.array([-4, -2, 0]) + emission, atol=1e-5)
        assert np.ptp(heard, axis=(1, 2)) == pytest.approx(0.0, abs=1e-5)


def test_what_costs_and_gives_nothing_is_selected_against() -> None:
    made = invasion_fitness(
        WORLD, (-2.0, 0.0), (-1.0, 1.0), founders=80, steps=300, replicates=6, rarity=0.3, resamples=199
    )
    assert made.gradients.shape == (6, 2, 2, 2)
    assert made.growth.shape == (6, 2, 2, 4)
    assert (made.gradients[..., 0].mean(0) < 0).all()  # those who emit more pay, wherever they are
    np.testing.assert_allclose(made.gradients[..., 0], (made.growth[..., 0] - made.growth[..., 1]) / 2)
    assert (made.population[0] > 5).all()
    assert made.curl.p is not None
    assert 0 <= made.curl.share <= 1
    found = selection_jacobian(made)
    assert found.difference == pytest.approx(found.jacobian[1][0] - found.jacobian[0][1])


def field(matrix: list[list[float]], noise: float, seed: int) -> InvasionFitness:
    """A linear field of gradients on a grid, with noise of its replicates."""
    e, q = np.array([-1.0, 0.0, 1.0]), np.array([-2.0, 0.0, 2.0])
    points = np.stack(np.meshgrid(e, q, indexing="ij"), -1)
    clean = points @ np.array(matrix).T
    g = clean + noise * np.random.default_rng(seed).normal(size=(12, 3, 3, 2))
    return InvasionFitness(e, q, g, g.repeat(2, -1), np.ones((3, 3)), invasion_curl(g, e, q, resamples=199))


def test_the_jacobian_of_selection_is_read_off_a_linear_field() -> None:
    found = selection_jacobian(field([[-1.0, 2.0], [-2.0, -1.0]], 1e-3, 0))
    np.testing.assert_allclose(found.jacobian, [[-1, 2], [-2, -1]], atol=5e-3)
    assert found.difference == pytest.approx(-4.0, abs=0.01)
    assert found.antisymmetric_share == pytest.approx(2 / 3, abs=1e-2)  # |A| = 2 sqrt 2, |S| = sqrt 2
    assert found.p == 2 / 2**12
    assert found.null_share < 0.01
    p = [selection_jacobian(field([[-1.0, 0.5], [0.5, 1.0]], 0.5, i)).p for i in range(40)]
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.05) <= 0.15


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({"delta": 0.0}, "a delta above 0"),
        ({"rarity": 1.0}, "a delta above 0"),
        ({"emission": (1.0, 0.0), "replicates": 2, "steps": 20}, "increasing"),
        ({"settings": World2()}, "policy=tables"),
    ],
)
def test_what_makes_no_sense_is_refused(asked: dict[str, Any], message: str) -> None:
    usual: dict[str, Any] = {
        "settings": WORLD,
        "emission": (0.0, 1.0),
        "response": (0.0, 1.0),
        "founders": 40,
    }
    with pytest.raises(EcologyError, match=message):
        invasion_fitness(**{**usual, **asked})
