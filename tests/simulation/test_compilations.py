"""A plan is compiled once: other seeds, other people and other numbers reuse its programs."""

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from tests.learning.linear import people, task

SIZES = [7, 12, 4, 9, 31, 2, 5, 8]


@pytest.fixture
def compilations(monkeypatch):
    """How often XLA was asked for a program, since this was last called."""
    seen: list[str] = []
    listening = [True]

    def listen(event: str, *_: object, **__: object) -> None:
        if listening[0] and event == "/jax/core/compile/backend_compile_duration":
            seen.append(event)

    def count() -> int:
        number = len(seen)
        seen.clear()
        return number

    jax.monitoring.register_event_duration_secs_listener(listen)
    yield count
    listening[0] = False


def plan(**parts):
    local = fr.LocalTraining(optax.sgd(0.2, momentum=0.5), batch_size=4)
    return fr.Plan(**({"task": task(), "local": local, "cohort": 5, "server": fr.fedavgm(0.7)} | parts))


def go(given, seed=0, clients=None):
    test = people([5, 6], seed=9)
    return fr.simulate(given, clients or people(SIZES), rounds=2, seed=seed, test=test, processors=1)


def local(optimizer):
    return {"local": fr.LocalTraining(optimizer, batch_size=4)}


def stages(*parts):
    return {"aggregation": fr.chain(*parts)}


def private(norm, epsilon):
    return stages(fr.weight_by_examples(40), fr.clip(norm), fr.gaussian_noise()) | {
        "privacy": fr.Budget(epsilon=epsilon, delta=1e-3, rounds=2)
    }


def masked(norm):
    return stages(fr.weight_uniformly(), fr.clip(norm), fr.rotate(), fr.quantize(bits=12), fr.secure_sum(24))


SAME = {
    "rate and momentum": (
        local(optax.sgd(0.2, momentum=0.5)) | {"server": fr.fedavgm(0.7)},
        local(optax.sgd(0.1, momentum=0.9)) | {"server": fr.fedavgm(0.9)},
    ),
    "adamw": (local(optax.adamw(0.2)), local(optax.adamw(0.1, b1=0.8, eps=1e-5, weight_decay=0.3))),
    "a schedule": (
        local(optax.sgd(optax.cosine_decay_schedule(0.2, 100))),
        local(optax.sgd(optax.cosine_decay_schedule(0.1, 50))),
    ),
    "by the round": (local(lambda r: optax.sgd(0.2 / r)), local(lambda r: optax.sgd(0.1 / r))),
    "server": ({"server": fr.fedadam(0.1)}, {"server": fr.fedadam(0.01, b1=0.5)}),
    "mu": ({"algorithm": fr.fedprox(0.0)}, {"algorithm": fr.fedprox(0.5)}),
    "fednova": ({"algorithm": fr.fednova(momentum=0.5)}, {"algorithm": fr.fednova(momentum=0.8)}),
    "adaptive clip": (
        stages(fr.weight_by_examples(10), fr.clip(1.0)) | {"algorithm": fr.adaptive_clip(0.1)},
        stages(fr.weight_by_examples(20), fr.clip(1.0)) | {"algorithm": fr.adaptive_clip(0.3, quantile=0.7)},
    ),
    "clip norm under masks": (masked(0.5), masked(0.7)),
}


@pytest.mark.dealt(3, "case")
@pytest.mark.parametrize("case", SAME)
def test_numbers_do_not_compile_again(case, compilations):
    first, second = (plan(**parts) for parts in SAME[case])
    before = go(first)
    assert compilations() > 0
    after = go(second, seed=1)
    assert compilations() == 0
    assert before.records[-1].loss != after.records[-1].loss


@pytest.mark.filterwarnings("ignore::fairyring.PrivacyWarning")
def test_clip_norm_and_budget_do_not_compile_again(compilations):
    go(plan(**private(0.5, 8.0)))
    compilations()
    go(plan(**private(0.7, 4.0)), seed=1)
    assert compilations() == 0


def test_seeds_and_other_people_do_not_compile_again(compilations):
    given = plan()
    go(given)
    compilations()
    go(given, seed=5)
    go(given, clients=people(SIZES[::-1], seed=4))
    go(plan(), seed=2**31)
    assert compilations() == 0


def test_another_structure_is_another_program(compilations):
    go(plan())
    compilations()
    go(plan(algorithm=fr.scaffold()))
    assert compilations() > 0


def test_numbers_are_those_of_the_plan_that_runs():
    """Of plans that share a program, one with a rate of 0 learns nothing, and one with 0.2 what it learns alone."""

    def model(rate, rounds=2):
        given = plan(**local(optax.sgd(rate)))
        return fr.simulate(given, people(SIZES), rounds=rounds, processors=1).params

    alone = model(0.2)
    untrained, still, moved = model(0.0, rounds=1), model(0.0), model(0.2)
    jax.tree.map(np.testing.assert_array_equal, still, untrained)
    jax.tree.map(np.testing.assert_array_equal, moved, alone)
    assert not np.array_equal(moved["w"], still["w"])


def test_processors_can_be_named():
    given = plan()
    first, second = (fr.simulate(given, people(SIZES), rounds=2, processors=[place]) for place in (0, 1))
    jax.tree.map(np.testing.assert_array_equal, first.params, second.params)
    for wrong in ([], [-1]):
        with pytest.raises(fr.PlanError, match="numbers from 0"):
            fr.simulate(given, people(SIZES), rounds=1, processors=wrong)


def test_what_depends_on_the_task_alone_is_traced_once_for_all_plans_of_it():
    traces = []

    def apply(params, x):
        traces.append(x.shape)
        return x @ params["w"]

    given = fr.regression((lambda key: {"w": jax.numpy.zeros((3, 1))}, apply))
    rng = np.random.default_rng(0)
    columns = {
        "x": rng.normal(size=(40, 3)).astype(np.float32),
        "y": rng.normal(size=(40, 1)).astype(np.float32),
    }
    clients = fr.Population.from_arrays(columns, client=np.arange(40) // 5)

    def seen(rate):
        traces.clear()
        fr.simulate(plan(task=given, **local(optax.sgd(rate))), clients, rounds=1, test=clients, processors=1)
        return len(traces)

    first = seen(0.1)
    # The gradient of a whole batch and of a client's last one, and nothing else.
    assert seen(0.2) <= 4 < first
