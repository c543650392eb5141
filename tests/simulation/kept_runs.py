"""Private runs of many kinds, made once for all tests that look at what a run leaves behind."""

import os
from pathlib import Path
from typing import Any, NamedTuple

import optax
import pytest

import fairyring as fr
from fairyring.cli._source import Source
from fairyring.report import write_report
from tests.simulation.private_runs import DELTA, compiled_once, people, plan, run

WIDTH = 26
PEOPLE = people(64, 1, WIDTH)
OTHERS = people(6, 2, WIDTH)
BUDGET = fr.Budget(50.0, DELTA)
CENTRAL = plan(
    fr.gaussian_noise(2.0), features=WIDTH, algorithm=fr.adaptive_clip(0.5), budget=BUDGET, cohort=12
)
SHARED = plan(fr.distributed_noise("skellam", 2.0, shares=6), features=WIDTH, bits=22, budget=BUDGET)
TURNS = plan(
    fr.gaussian_noise(2.0),
    features=WIDTH,
    bits=None,
    cohort=fr.cohort.in_turn(10, separation=4),
    algorithm=fr.scaffold(),
    budget=fr.Budget(2.0, DELTA),
)
SILOS = fr.Plan(
    CENTRAL.task,
    fr.LocalTraining(
        optax.sgd(0.2),
        steps=2,
        rate=0.5,
        batch_size=2,
        examples=fr.chain(fr.clip(1.0), fr.gaussian_noise(2.0)),
    ),
    4,
    fr.chain(fr.weight_uniformly()),
    algorithm=fr.scaffold(),
    privacy=fr.Budget(50.0, DELTA, unit="example"),
)
COINS = plan(
    fr.gaussian_noise(2.0),
    features=WIDTH,
    bits=None,
    cohort=fr.cohort.poisson(0.25, maximum=64),
    budget=BUDGET,
)


class Kept(NamedTuple):
    """A run, and its folder."""

    run: fr.Run
    folder: Path


def make_private_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Kept]:
    """By what is special about them. The process's mask hides nothing while they are made."""
    folder = tmp_path_factory.mktemp("private")
    before = os.umask(0)
    try:
        with compiled_once():

            def made(name: str, given: fr.Plan, rounds: int = 2, **options: Any) -> None:
                whom = options.pop("population", PEOPLE)
                settings = {"checkpoint_every": 1, "entropy": None} | options
                found[name] = Kept(run(given, rounds, whom, run=folder / name, **settings), folder / name)

            found: dict[str, Kept] = {}
            made("audited", CENTRAL, audit=fr.privacy.Canaries(30), test=OTHERS)
            fr.audit_run(folder / "audited", CENTRAL, PEOPLE, canaries=30, targets=5, shadows=8)
            made("dropouts", SHARED, secure_sum="protocol", dropout=0.25, entropy=bytes(32))
            made("states", TURNS, rounds=4)
            made("kept", TURNS, keep_client_states=True, init=found["states"].run, keep="all")
            made("spent", TURNS, rounds=60)
            stop = fr.EarlyStopping("loss", patience=1, by=1e9)
            tests = {"some": OTHERS, "others": OTHERS}
            made("stopped", TURNS, rounds=6, test=tests, evaluate_every=1, stop=stop, keep="best")
            made("sampled", COINS)
            made("sampled", COINS, rounds=3, resume=True)
            made("silos", SILOS, population=OTHERS, keep_client_states=True)
            write_report(found["audited"].folder)
            Source("plan.py", {}).store(found["audited"].folder)
    finally:
        os.umask(before)
    return found
