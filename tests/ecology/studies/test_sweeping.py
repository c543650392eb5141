"""A sweep over settings of a world: its runs are runs, one that fails stops nothing, and it can go on."""

import csv
import dataclasses
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, RunDamaged, RunError, RunMismatch
from fairyring.ecology import evolve, load, read_sweep, sweep
from fairyring.ecology.history import fingerprint, summaries
from fairyring.ecology.results import RUNS_TABLE, SETTINGS_TABLE, SWEEP
from fairyring.ecology.studies import sweeping
from fairyring.statistics import student_interval
from tests.ecology.worlds import FIRST

pytestmark = pytest.mark.optimised

GRID: dict[str, list[Any]] = {"minimum": [8, "20"], "memory": [2, 4.0]}
SHORT = {"worlds": 2, "steps": 40, "seeds": 2, "assayed": False}


def test_two_at_once_are_refused_in_one_folder(tmp_path: Path) -> None:
    folder, seen = tmp_path / "sweep", []

    def meanwhile(_: object) -> None:
        for resume in (False, True):
            with pytest.raises(
                RunError, match=r"sweep folder .* (path that is in use|being written by process)"
            ) as refused:
                sweep(FIRST, GRID, folder=folder, resume=resume, **SHORT)
            seen.append("being written" in str(refused.value))

    sweep(FIRST, {"minimum": [8]}, folder=folder, on_run=meanwhile, worlds=1, steps=4, seeds=1, assayed=False)
    assert seen == [False, True]
    assert (
        len(
            sweep(
                FIRST, {"minimum": [8]}, folder=folder, resume=True, worlds=1, steps=4, seeds=1, assayed=False
            ).runs
        )
        == 1
    )
    begun = tmp_path / "begun"
    begun.mkdir()
    (begun / "lock").touch()  # what is left where one was killed at once
    sweep(FIRST, {"minimum": [8]}, folder=begun, worlds=1, steps=4, seeds=1, assayed=False)


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def test_runs_are_those_of_evolve_and_one_that_fails_is_made_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made: list[tuple[int, float, int]] = []

    def failing(settings: Any, worlds: Any, steps: int, seed: int, **more: Any) -> Any:
        made.append((settings.minimum, settings.memory, seed))
        if made[-1] == (20, 2.0, 0) and len(made) <= 8:
            raise MemoryError("no room")
        return evolve(settings, worlds, steps, seed, **more)

    monkeypatch.setattr(sweeping, "evolve", failing)
    folder, ended = tmp_path / "sweep", []
    found = sweep(FIRST, GRID, folder=folder, on_run=ended.append, **SHORT)
    assert found.names == [
        "minimum=8,memory=2", "minimum=8,memory=4", "minimum=20,memory=2", "minimum=20,memory=4",
    ]  # fmt: skip
    assert made[:4] == [(8, 2.0, 0), (8, 4.0, 0), (20, 2.0, 0), (20, 4.0, 0)]  # a seed of each setting first
    assert len(ended) == len(found.runs) == 8
    (failed,) = found.failed
    assert (failed.setting, failed.seed, failed.error) == (2, 0, "MemoryError: no room")
    assert "failed: minimum=20,memory=2, seed 0: MemoryError: no room" in str(found)
    assert [row["finished"] for row in found.table()] == [2, 2, 1, 2]

    settings = dataclasses.replace(FIRST, minimum=20, memory=4.0)
    run = load(folder / "minimum=20,memory=4" / "seed-1.eco")
    assert fingerprint(run) == fingerprint(evolve(settings, 2, 40, 1))
    means = [
        np.mean(
            [row.population for row in summaries(load(folder / "minimum=20,memory=4" / f"seed-{seed}.eco"))]
        )
        for seed in (0, 1)
    ]
    interval = student_interval(np.array(means))
    assert found.mean(3, "population") == interval
    row = rows(folder / SETTINGS_TABLE)[3]
    assert (row["minimum"], row["memory"], row["finished"]) == ("20", "4", "2")
    assert float(row["population.low"]) == interval.low
    assert [run["error"] for run in rows(folder / RUNS_TABLE)].count("") == 7

    # What has ended is kept, what failed is made, and what is new is added; longer runs go on where they were.
    again = sweep(FIRST, GRID | {"minimum": [8, 20, 30]}, folder=folder, resume=True, **SHORT)
    assert made[8:] == [(20, 2.0, 0), (30, 2.0, 0), (30, 4.0, 0), (30, 2.0, 1), (30, 4.0, 1)]
    assert again.failed == []
    assert again.mean(3, "population") == interval
    assert read_sweep(folder).runs == again.runs
    longer = sweep(FIRST, GRID, folder=folder, resume=True, **SHORT | {"steps": 60, "seeds": [0]})
    assert made[13:] == []
    assert [run.steps for run in longer.runs] == [60] * 4
    assert fingerprint(load(folder / "minimum=8,memory=4" / "seed-0.eco")) == fingerprint(
        evolve(FIRST, 2, 60, 0)
    )
    with pytest.raises(RunMismatch, match=r"conjugation=0.05.*expected.*conjugation=0.5"):
        sweep(dataclasses.replace(FIRST, conjugation=0.5), GRID, folder=folder, resume=True, **SHORT)
    with pytest.raises(RunError, match="--resume"):
        sweep(FIRST, GRID, folder=folder, **SHORT)
    (folder / SWEEP).write_text("{}")
    with pytest.raises(RunDamaged):
        read_sweep(folder)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: sweep(FIRST, {"food_inflx": [1]}), "Did you mean 'food_influx'"),
        (lambda: sweep(FIRST, {"minimum": [8, 1000]}), "room for the minimum"),
        (lambda: sweep(FIRST, {"minimum": "8"}), "a list of values"),
        (lambda: sweep(FIRST, {"minimum": []}), "at least one value"),
        (lambda: sweep(FIRST, {}), "at least one field"),
        (lambda: sweep(FIRST, {"memory": [4, "4.0"]}), "the same worlds twice"),
        (lambda: sweep(FIRST, {"memory": [4]}, seeds=0), "seeds: given 0"),
        (lambda: sweep(FIRST, {"memory": [4]}, seeds=[1, 1]), "different ones"),
        (lambda: sweep(FIRST, {"memory": [4]}, steps=0), "steps: given 0"),
    ],
)
def test_what_cannot_be_swept_is_refused_before_anything_is_run(
    call: Callable[[], Any], told: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sweeping, "evolve", None)
    with pytest.raises(EcologyError, match=told):
        call()
