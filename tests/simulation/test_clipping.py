"""What a simulation records of a clip, where that may be known, and what it says of one that cuts nearly everything."""

import dataclasses
import math
import warnings
from pathlib import Path

import jax
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.rounds.cautions import clipping_caution
from tests.learning.linear import people, task

PEOPLE = people([7, 12, 4, 9, 31, 2, 5, 8])


def plan(aggregation: object, rate: float = 10.0, cohort: int = 8, **changes: object) -> fr.Plan:
    return fr.Plan(
        task(),
        fr.LocalTraining(optax.sgd(rate), batch_size=4),
        cohort=cohort,
        aggregation=aggregation,
        **changes,
    )


def run(plan: fr.Plan, rounds: int = 4, **options: object) -> fr.Run:
    return fr.simulate(plan, PEOPLE, rounds=rounds, **options)


def moved(done: fr.Run, start: fr.Run) -> float:
    leaves = zip(jax.tree.leaves(done.params), jax.tree.leaves(start.params), strict=True)
    return math.sqrt(sum(float(np.sum((np.asarray(a) - np.asarray(b)) ** 2)) for a, b in leaves))


def test_the_recorded_norm_is_that_of_the_update_and_the_run_says_once_that_nearly_all_is_cut() -> None:
    with pytest.warns(
        fr.TrainingWarning, match=r"In rounds 1 to 3 clip\(0.01\) cut 100.0 % of the updates"
    ) as caught:
        done = run(plan(fr.clip(0.01)))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert done.header["cautions"] == [str(caught[0].message)]
    assert [record.clipped for record in done.records] == [1.0] * 4
    # One client by itself: what the model moves without a clip is the norm.
    cohort = fr.cohort.fixed([[4]])
    free = run(plan(fr.weight_uniformly(), cohort=cohort), 1)
    start = run(plan(fr.weight_uniformly(), 0.0, cohort=cohort), 1)
    with pytest.warns(fr.TrainingWarning, match="In round 1 "):
        alone = run(plan(fr.clip(0.01), cohort=cohort), 1)
    assert alone.records[0].update_norm == pytest.approx(moved(free, start), rel=1e-4)
    assert free.records[0].clipped is None


def test_engines_record_the_same_and_bits_stay(monkeypatch: pytest.MonkeyPatch) -> None:
    stages = fr.chain(fr.weight_by_examples(), fr.clip(20.0))
    with warnings.catch_warnings():
        warnings.simplefilter("error", fr.TrainingWarning)  # a clip that cuts some is a choice
        ways = [
            run(plan(stages, 0.5), **options)
            for options in ({}, {"processors": 1}, {"clients_per_batch": 3}, {"engine": "debug"})
        ]
    for done in ways[1:]:
        assert [record.clipped for record in done.records] == [record.clipped for record in ways[0].records]
        assert [r.update_norm for r in done.records] == pytest.approx(
            [r.update_norm for r in ways[0].records], rel=1e-4
        )
    assert 0 < ways[0].records[0].clipped < 1  # type: ignore[operator]


def test_nothing_of_one_client_is_recorded_where_it_is_a_secret() -> None:
    masked = run(plan(fr.chain(fr.clip(0.01), fr.quantize(bits=12), fr.secure_sum())))
    private = fr.Budget(epsilon=1e6, delta=1e-2, rounds=4)
    noisy = run(plan(fr.chain(fr.clip(0.01), fr.gaussian_noise()), privacy=private))
    for done in (masked, noisy):
        assert all(record.clipped is record.update_norm is None for record in done.records)
        assert "cautions" not in done.header


def test_a_norm_that_follows_the_updates_needs_no_word() -> None:
    adaptive = plan(fr.clip(1.0), algorithm=fr.adaptive_clip(0.01))
    records = [dataclasses.make_dataclass("Record", ["clipped", "update_norm"])(1.0, 50.0)] * 3
    assert clipping_caution(adaptive, records) is None  # type: ignore[arg-type]
    assert clipping_caution(plan(fr.clip(1.0)), records) is not None  # type: ignore[arg-type]


def test_a_run_that_is_gone_on_with_keeps_what_it_has_said(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    with pytest.warns(fr.TrainingWarning, match="In rounds 1 to 2 ") as caught:
        run(plan(fr.clip(0.01)), 2, run=folder)
    with warnings.catch_warnings():
        warnings.simplefilter("error", fr.TrainingWarning)
        more = run(plan(fr.clip(0.01)), 4, run=folder, resume=True)
    assert more.header["cautions"] == [str(caught[0].message)]
