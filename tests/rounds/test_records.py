"""A round's record: whose columns are whose."""

from dataclasses import replace

import jax.numpy as jnp
import optax
import pytest

import fairyring as fr
from fairyring.core.errors import PlanError
from fairyring.rounds.means import TAKEN
from tests.learning.linear import people, task


def ones(outputs, batch):
    return jnp.ones(outputs.shape[0]), jnp.ones(outputs.shape[0])


def plan(name: str) -> fr.Plan:
    named = replace(task(), metrics={name: fr.Metric(ones, 1.0)})
    return fr.Plan(named, fr.LocalTraining(optax.sgd(0.1)), cohort=2)


@pytest.mark.parametrize("name", sorted(TAKEN))
def test_a_metric_that_would_be_written_over_is_refused(name):
    with pytest.raises(PlanError, match=f"named '{name}'"):
        fr.simulate(plan(name), people([3, 4]), rounds=1)


def test_the_columns_of_a_record_are_those_that_are_taken():
    run = fr.simulate(plan("mine"), people([3, 4]), test=people([3]), rounds=1)
    assert run.metrics[0]["mine"] == run.metrics[0]["test"]["mine"] == 1.0
    assert set(run.metrics[0]) - {"mine"} <= TAKEN
