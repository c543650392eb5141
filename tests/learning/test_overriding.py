"""A plan changed by paths is the plan written by hand."""

from dataclasses import replace

import numpy as np
import optax
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import fairyring as fr
from tests.learning.linear import task

RATE = "local.optimizer.learning_rate"


def plan(**parts):
    local = fr.LocalTraining(optax.sgd(0.2, momentum=0.5), batch_size=4)
    return fr.Plan(task(), **({"local": local, "cohort": 5, "server": fr.fedadam(0.1)} | parts))


def locally(optimizer, **changes):
    return {"local": fr.LocalTraining(optimizer, **{"batch_size": 4} | changes)}


def stages(*parts):
    return {"aggregation": fr.chain(*parts)}


TWICE = fr.clip(2.0), fr.weight_uniformly(), fr.clip(1.0)
ADAPTIVE = stages(fr.weight_uniformly(), fr.clip(1.0))


@pytest.mark.parametrize(
    ("before", "changes", "after"),
    [
        ({}, {RATE: "0.05"}, locally(optax.sgd(0.05, momentum=0.5))),
        ({}, {RATE: 0.05}, locally(optax.sgd(0.05, momentum=0.5))),
        ({}, {"local.optimizer.momentum": "0.9"}, locally(optax.sgd(0.2, momentum=0.9))),
        (locally(optax.sgd(0.2)), {"local.optimizer.momentum": 0.9}, locally(optax.sgd(0.2, momentum=0.9))),
        (
            locally(optax.adamw(0.2)),
            {"local.optimizer.weight_decay": "0.3"},
            locally(optax.adamw(0.2, weight_decay=0.3)),
        ),
        ({}, {"server.learning_rate": "0.3", "server.b1": "0.5"}, {"server": fr.fedadam(0.3, b1=0.5)}),
        ({}, {"server": optax.sgd(1.0)}, {"server": optax.sgd(1.0)}),
        ({"algorithm": fr.fedprox(0.1)}, {"algorithm.mu": "0.3"}, {"algorithm": fr.fedprox(0.3)}),
        ({}, {"algorithm": fr.scaffold()}, {"algorithm": fr.scaffold()}),
        (
            ADAPTIVE | {"algorithm": fr.adaptive_clip(0.1, algorithm=fr.fedprox(0.1))},
            {"algorithm.initial": "0.2", "algorithm.algorithm.mu": 0.4},
            ADAPTIVE | {"algorithm": fr.adaptive_clip(0.2, algorithm=fr.fedprox(0.4))},
        ),
        (stages(fr.clip(0.5)), {"aggregation.clip.norm": "0.7"}, stages(fr.clip(0.7))),
        ({"aggregation": fr.clip(0.5)}, {"aggregation.clip.norm": "0.7"}, {"aggregation": fr.clip(0.7)}),
        (stages(*TWICE), {"aggregation.clip[1].norm": 0.5}, stages(*TWICE[:2], fr.clip(0.5))),
        (
            stages(fr.weight_uniformly(), fr.clip(0.5), fr.quantize(bits=12)),
            {"aggregation.quantize.bits": "8"},
            stages(fr.weight_uniformly(), fr.clip(0.5), fr.quantize(bits=8)),
        ),
        ({"cohort": fr.cohort.poisson(0.2, maximum=9)}, {"cohort.rate": "0.1"}, {"cohort": fr.cohort.poisson(0.1, maximum=9)}),
        ({}, {"cohort": "7", "local.batch_size": "3"}, locally(optax.sgd(0.2, momentum=0.5), batch_size=3) | {"cohort": 7}),
    ],
)  # fmt: skip
def test_it_is_the_plan_written_by_hand(before, changes, after):
    start, expected = plan(**before), plan(**before | after)
    unchanged = start.document()
    changed = fr.override(start, changes)
    assert changed.document() == expected.document()
    assert changed.digest() == expected.digest()
    assert start.document() == unchanged


@settings(max_examples=15)
@given(st.floats(1e-6, 10.0), st.floats(0.0, 0.999))
def test_numbers_of_optimisers(rate, momentum):
    changed = fr.override(plan(), {RATE: repr(rate), "local.optimizer.momentum": repr(momentum)})
    expected = plan(**locally(optax.sgd(rate, momentum=momentum)))
    assert changed.document() == expected.document()


@pytest.mark.filterwarnings("ignore::fairyring.PrivacyWarning")
def test_noise_is_calibrated_again():
    def private(norm, epsilon):
        noisy = fr.chain(fr.weight_by_examples(40), fr.clip(norm), fr.gaussian_noise())
        return plan(aggregation=noisy, privacy=fr.Budget(epsilon=epsilon, delta=1e-3, rounds=2))

    changed = fr.override(private(0.5, 8.0), {"aggregation.clip.norm": "0.7", "privacy.epsilon": "4"})
    assert changed.document() == private(0.7, 4.0).document()


@pytest.mark.filterwarnings("ignore::fairyring.PrivacyWarning")
def test_fields_take_the_values_of_their_declared_types():
    def private(**budget):
        noisy = fr.chain(fr.weight_by_examples(40), fr.clip(1.0), fr.gaussian_noise())
        return plan(
            aggregation=noisy, privacy=fr.Budget(**{"epsilon": 8, "delta": 1e-3, "rounds": 2} | budget)
        )

    for text, value in (("0.5", 0.5), (0.5, 0.5)):
        assert (
            fr.override(private(), {"privacy.epsilon": text}).document() == private(epsilon=value).document()
        )
    changed = fr.override(private(), {"privacy.population": "1000"})
    assert changed.document() == private(population=1000).document()
    assert fr.override(plan(), {"local.batch_size": np.int64(3)}).local.batch_size == 3


def own_stage():
    inner = fr.clip(0.5)
    return type(inner)("mine", inner.bind)


@pytest.mark.parametrize(
    ("before", "changes", "match"),
    [
        ({}, {"local.optimizer.rate": "1"}, "learning_rate|one of"),
        ({}, {"local.optimiser.learning_rate": "1"}, "Did you mean 'optimizer'"),
        (locally(optax.chain(optax.clip(1.0), optax.sgd(0.1))), {RATE: "1"}, "has no name here"),
        (locally(lambda r: optax.sgd(0.1 / r)), {RATE: "1"}, "a function"),
        (locally(optax.sgd(optax.cosine_decay_schedule(0.1, 9))), {RATE: "1"}, "as a schedule|by name"),
        ({}, {RATE: "fast"}, "fast"),
        ({}, {"algorithm.mu": "1"}, "no settings"),
        ({"algorithm": fr.fedprox(0.1)}, {"algorithm.nu": "1"}, "one of mu"),
        ({"algorithm": fr.fedprox(0.1)}, {"algorithm.mu": "-1"}, "fedprox mu"),
        (stages(*TWICE), {"aggregation.clip.norm": "1"}, r"clip\[0\]"),
        (stages(*TWICE), {"aggregation.clip[2].norm": "1"}, "2 stages clip"),
        ({}, {"aggregation.clip.norm": "1"}, "weight_by_examples"),
        (stages(fr.clip(1.0)), {"aggregation.clip.nrom": "1"}, "Did you mean 'norm'"),
        (stages(fr.clip(1.0)), {"aggregation.clip": "1"}, "clip.NAME"),
        (stages(own_stage()), {"aggregation.mine.norm": "1"}, "of your own|one of"),
        ({}, {"server": "adam"}, "number, a boolean or a string"),
        ({"cohort": fr.cohort.poisson(0.2, maximum=9)}, {"cohort.rate": "2"}, "poisson rate"),
        ({"cohort": fr.cohort.poisson(0.2, maximum=9)}, {"cohort.maximum": 0}, "poisson maximum"),
        (
            {"algorithm": fr.fedprox(0.1)._replace(update=lambda params: params)},
            {"algorithm.mu": 0.3},
            "of your own",
        ),
        (
            stages(replace(fr.clip(0.5), bind=fr.clip(0.1).bind)),
            {"aggregation.clip.norm": 1.0},
            "of your own",
        ),
        ({}, {RATE: "none"}, "expected float"),
        ({}, {RATE: [0.1]}, "expected float"),
        ({"algorithm": fr.fedprox(0.1)}, {"algorithm.mu": [1]}, "expected float"),
        ({}, {"local.optimizer.accumulator_dtype": "1"}, "accumulator_dtype"),
        (locally(optax.sgd(0.2)), {"local.optimizer.nesterov": "true"}, "does not use nesterov"),
        ({}, {"cohort": "many"}, "many"),
    ],
)
def test_what_cannot_be_changed_is_refused(before, changes, match):
    start = plan(**before)
    with pytest.raises(fr.PlanError, match=match):
        fr.override(start, changes)


def test_values_that_only_fit_together_are_set_together():
    for chosen in (
        {"local.epochs": "none", "local.steps": "5"},
        {"local.steps": "5", "local.optimizer.momentum": "0.9", "local.epochs": "none"},
    ):
        changed = fr.override(plan(), chosen)
        assert (changed.local.epochs, changed.local.steps) == (None, 5)
    with pytest.raises(fr.PlanError, match="one of the two"):
        fr.override(plan(), {"local.steps": "5", "local.epochs": "2"})
