"""Attacks on a plan: what one bare update gives away, and what is left of that after clip, sum and noise."""

from pathlib import Path

import equinox as eqx
import jax
import numpy as np
import optax
import pytest
from safetensors.numpy import load_file

import fairyring as fr
from fairyring.audit.attack import reconstruct
from fairyring.core.errors import PlanError, RunError, RunMismatch
from fairyring.records.folder import RunFolder
from tests.rounds.round_records import record_of

pytest.importorskip("dp_accounting")
pytest.importorskip("sklearn")


@pytest.fixture(scope="module")
def population():
    return fr.load("digits", clients=200, alpha=0.3)[0]


def plan_of(model, **changes) -> fr.Plan:
    given = {
        "local": fr.LocalTraining(optax.sgd(0.5), epochs=1, batch_size=10),
        "cohort": fr.cohort.in_turn(20, separation=10),
        "aggregation": fr.chain(fr.clip(1.0), fr.gaussian_noise()),
        "privacy": fr.Budget(8.0, 1e-5, rounds=10),
    } | changes
    return fr.Plan(fr.classification(model, loss_bound=5.0), **given)


def dense():
    return fr.zoo.logistic_regression(features=64, classes=10)


class Small(eqx.Module):
    """A convolution and a dense layer: `[8, 8, 1]` -> logits `[10]`."""

    convolution: eqx.nn.Conv2d
    out: eqx.nn.Linear

    def __init__(self, key):
        first, second = jax.random.split(key)
        self.convolution = eqx.nn.Conv2d(1, 8, 3, stride=2, padding=1, key=first)
        self.out = eqx.nn.Linear(128, 10, key=second)

    def __call__(self, x, key=None):
        return self.out(jax.nn.sigmoid(self.convolution(x[..., 0][None])).reshape(-1))


def test_a_dense_layer_gives_its_input_away_and_a_private_round_does_not(population) -> None:
    found = reconstruct(plan_of(dense()), population, targets=6)
    assert found.attack == "quotients of each unit of the first dense layer"
    assert any("without hidden units" in limit for limit in found.limits)
    assert found.error["bare"] < 1e-8
    assert found.bare_reads.exact == 6
    assert not found.of_bare.not_better
    assert found.nothing
    assert "read nothing better than a blind guess from 6 releases; other attacks may." in found.statement
    assert found.error["protected"] > 1e4 * found.error["bare"]
    np.testing.assert_allclose(found.bare, found.truth, atol=1e-3)
    assert not np.allclose(found.protected, found.truth, atol=0.1)


def hidden():
    return fr.zoo.two_nn(features=64, hidden=200, classes=10)


MASKED = fr.chain(fr.weight_uniformly(), fr.clip(1.0), fr.quantize(bits=16), fr.secure_sum())


def test_clip_and_a_secure_sum_without_noise_are_seen_through(population) -> None:
    once = fr.LocalTraining(optax.sgd(0.5), epochs=1, batch_size=10)
    plan = plan_of(hidden(), local=once, cohort=60, aggregation=MASKED, privacy=None)
    found = reconstruct(plan, population, targets=6)
    assert found.attack == "quotients of each unit of the first dense layer, what was read taken off"
    reads = found.reads
    assert reads.exact >= 5
    assert reads.distinct > reads.exact
    assert reads.wrong <= 0.05 * reads.sure
    assert reads.chance == 0
    assert reads.p < 1e-9
    assert not found.nothing
    assert "Other attacks may read more." in found.statement
    # What the report shows side by side is the same example, wherever it was read.
    off = np.abs(found.protected - found.nearest).reshape(6, -1).max(axis=1)
    assert (off <= reads.tolerance).sum() == reads.exact


def test_of_a_small_sum_in_the_clear_everything_is_read(population) -> None:
    plan = plan_of(hidden(), cohort=3, aggregation=fr.clip(1.0), privacy=None)
    reads = reconstruct(plan, population, targets=5).reads
    assert reads.exact == 5
    assert reads.distinct > 0.9 * reads.examples
    assert reads.wrong <= 0.05 * reads.sure


def test_under_a_budget_this_attack_reads_nothing_either(population) -> None:
    found = reconstruct(plan_of(hidden()), population, targets=6)
    assert found.bare_reads.exact == 6
    assert (found.reads.exact, found.reads.distinct, found.reads.sure) == (0, 0, 0)
    assert found.nothing
    assert found.record()["not_better_than_blind"]


def test_where_all_take_part_the_attacker_knows_the_others(population) -> None:
    few = population.select(np.arange(4))
    plan = plan_of(dense(), cohort=fr.cohort.fixed([[0, 1, 2, 3]]), aggregation=fr.clip(1.0), privacy=None)
    reads = reconstruct(plan, few, targets=5).reads
    assert reads.examples == sum(few.sizes[k % 4] for k in range(1, 6))
    alone = plan_of(dense(), cohort=1, aggregation=fr.clip(1.0), privacy=None)
    with pytest.raises(PlanError, match="one client"):
        reconstruct(alone, population.select(np.arange(1)), targets=5)


def test_a_plan_that_protects_nothing_is_seen_through(population) -> None:
    # One client a round, of one example, in the clear: the change of the model is that example.
    rows, _ = population.rows()
    alone = fr.Population.from_arrays({name: rows[name][:60] for name in ("x", "y")}, client=np.arange(60))
    bare = plan_of(dense(), cohort=1, aggregation=fr.weight_by_examples(), privacy=None)
    found = reconstruct(bare, alone, targets=5)
    assert found.reads.exact == 5
    assert not found.of_protected.not_better
    assert found.error["protected"] < 1e-4


@pytest.mark.slow
def test_a_convolution_is_attacked_by_matching_gradients(population) -> None:
    found = reconstruct(plan_of(Small), population, targets=5)
    assert found.attack == "gradient matching from 6 starts"
    assert found.error["bare"] < found.error["blind"]
    assert not found.of_bare.not_better
    assert found.nothing


def test_an_audit_is_of_the_run_it_is_asked_for(population, tmp_path: Path) -> None:
    plan = plan_of(dense())
    fr.simulate(plan, population, rounds=10, run=tmp_path / "run", seed=3)
    with pytest.raises(RunMismatch, match="a plan"):
        fr.audit_run(
            tmp_path / "run", plan_of(dense(), cohort=fr.cohort.in_turn(10, separation=20)), population
        )
    with pytest.raises(RunMismatch, match="a population"):
        fr.audit_run(tmp_path / "run", plan, population.select(np.arange(199)))
    before = (tmp_path / "run" / "ledger.head").read_bytes()
    found = fr.audit_run(tmp_path / "run", plan, population, canaries=100, targets=5, shadows=8)
    assert found.holds
    assert found.canaries is not None
    assert 0 < found.canaries["lower"] <= found.canaries["claimed"] <= 8
    assert found.canaries["canaries"] == 100
    assert found.mechanism is not None
    assert found.mechanism["holds"]
    assert found.membership is not None
    assert found.membership.members.shape == (8, 200)
    arrays = load_file(tmp_path / "run" / "audit.safetensors")
    for name in ("truth", "bare", "protected", "nearest", "blind"):
        assert arrays[name].shape == (5, 8, 8, 1)
    assert len(arrays["scores"]) == 100
    assert (tmp_path / "run" / "ledger.head").read_bytes() == before  # an audit spends nothing of the run's
    text = fr.write_report(tmp_path / "run").read_text("utf-8")
    assert 'aria-label="Reconstructed examples"' in text
    assert 'aria-label="Membership inference"' in text
    assert "tests of the claimed law hold" in text


def test_a_run_without_rounds_and_inputs_that_are_no_numbers_are_refused(population, tmp_path: Path) -> None:
    folder = RunFolder.create(tmp_path / "empty")
    folder.write("run.json", {"form": 3, "fingerprints": {}})
    with pytest.raises(RunError, match="no finished round"):
        fr.audit_run(tmp_path / "empty", plan_of(dense()), population)
    letters = fr.Population.from_arrays(
        {"x": np.zeros((40, 8), np.int32), "y": np.zeros((40, 8), np.int32)}, client=np.arange(40)
    )
    task = fr.next_token(fr.zoo.lstm(vocabulary=8))
    words = fr.Plan(task, local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=4), cohort=4)
    with pytest.raises(PlanError, match="real numbers"):
        reconstruct(words, letters, targets=5)


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"targets": 4}, "audit targets"),
        ({"targets": -1}, "audit targets"),
        ({"shadows": 6}, "membership shadows"),
        ({"shadows": 9}, "membership shadows"),
        ({"shadows": -8}, "membership shadows"),
        ({"canaries": 29}, "canaries count"),
        ({"canaries": -1}, "canaries count"),
    ],
)
def test_an_audit_that_can_tell_nothing_is_refused_before_anything_runs(
    asked: dict[str, int], words: str, population, tmp_path: Path
) -> None:
    # There is no run there at all: nothing was looked at.
    with pytest.raises(PlanError, match=words):
        fr.audit_run(tmp_path / "none", plan_of(dense()), population, **asked)


def test_an_audit_of_nothing_leaves_what_earlier_ones_found(population, tmp_path: Path) -> None:
    plan = plan_of(dense(), aggregation=fr.weight_by_examples(), privacy=None)
    folder = RunFolder.create(tmp_path / "run")
    columns = plan.task.columns_of(population)
    fingerprints = {"plan": plan.digest(columns), "population": population.fingerprint()}
    facts = {"form": 3, "fingerprints": fingerprints, "seed": 0, "seconds": 1e6, "dropout": 0.0}
    folder.write("run.json", facts)
    folder.append_records([record_of(1)])
    folder.write("audit.json", {"membership": "found before"})
    for asked in ({"canaries": 0, "shadows": 0}, {"shadows": 0}, {}):
        with pytest.raises(PlanError, match="something to look at"):
            fr.audit_run(tmp_path / "run", plan, population, targets=0, **asked)
    assert folder.read("audit.json") == {"membership": "found before"}
