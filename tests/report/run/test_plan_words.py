"""A plan's document in a few lines."""

import optax

import fairyring as fr
from fairyring.report.run.plan_words import plan_in_words
from tests.learning.linear import task


def test_a_plan_is_said_as_it_was_written() -> None:
    plan = fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.1), steps=3, batch_size=4),
        cohort=20,
        algorithm=fr.fedprox(0.01),
        aggregation=fr.chain(fr.clip(0.5), fr.quantize(bits=12), fr.secure_sum()),
    )
    words = dict(plan_in_words(plan.describe()))
    assert words["learned"] == "classification of column x, by a model with 18 parameters"
    assert words["on a client"] == "3 steps, batches of 4, sgd(learning_rate=0.1)"
    assert words["algorithm"] == "fedprox(mu=0.01)"
    assert words["an update"].startswith("clip(norm=0.5), then quantize(bits=12), then secure_sum(")
    assert "budget" not in words


def test_a_budget_is_said_down_to_its_numbers() -> None:
    budget = {
        "epsilon": 8.0,
        "rounds": 60,
        "noise": {"mechanism": "skellam", "multiplier": 1.5, "bands": None},
    }
    assert plan_in_words({"privacy": budget}) == [
        ("budget", "epsilon 8, rounds 60, noise (mechanism skellam, multiplier 1.5)")
    ]


def test_a_document_that_lacks_all_of_it_says_nothing() -> None:
    assert plan_in_words({}) == []
