"""A promise that is worth little, and noise that leaves little to be learned, are said wherever a person looks."""

import json
import math
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.cli import _train
from fairyring.privacy.cautions import cautions, clients_for, signal_to_noise
from fairyring.privacy.correlated import coefficients, noise_error
from fairyring.privacy.planner import cost
from fairyring.records.round_record import read_record
from fairyring.rounds.cautions import warnings_of
from fairyring.rounds.spending import RunSpending
from tests.report.run.run_folders import make_run_folder

from .private_runs import DELTA, ENTROPY, plan, run

NOISE = r"A round's mean update, as long as the clip, is \S+ times as long as the noise"
EXPOSED = "exposed whole"


def test_each_is_said_from_its_bound_on() -> None:
    assert cautions(delta=0.99 / 40, clients=40, ratio=1.0) == []
    (said,) = cautions(delta=1 / 40, clients=40)
    assert EXPOSED in said
    assert "0.025 allows one of 40 devices" in said
    (said,) = cautions(delta=1e-9, clients=1000, ratio=0.499)
    assert "0.5 times" in said
    assert "about 2,005 devices" in said
    assert "there are 1,000" in said
    assert len(cautions(delta=0.5, clients=4, ratio=0.1)) == 2


def test_so_many_clients_have_the_ratio_that_was_asked_for() -> None:
    ratio = signal_to_noise(3.0, 20, 5000, 0.5)
    assert ratio == pytest.approx(0.5 * 20 / (3 * math.sqrt(5000)))
    enough = clients_for(1.0, 200, ratio)
    assert (
        signal_to_noise(3.0, enough / 10, 5000, 0.5) >= 1 > signal_to_noise(3.0, (enough - 1) / 10, 5000, 0.5)
    )


def said_of(given: fr.Plan, clients: int = 40, rounds: int = 30) -> float:
    """The ratio that is warned of; infinite where it is not."""
    said = [one for one in warnings_of(given, clients, rounds) if "noise in it" in one]
    return float(said[0].split(" is ")[1].split()[0]) if said else math.inf


def test_what_is_said_is_the_planners_measure() -> None:
    """But for what the auxiliary values and the rounding add, some per cent."""
    budget = fr.Budget(8.0, DELTA, rounds=30)
    given = plan(fr.gaussian_noise(), budget=budget)
    planned = cost(
        "anybody", population=40, cohort=10, rounds=30, epsilon=8.0, delta=DELTA, dimension=given.layout.size
    )
    assert 0.9 * planned.signal_to_noise < said_of(given) <= planned.signal_to_noise * 1.01
    coin = plan(fr.gaussian_noise(2.0), cohort=fr.cohort.poisson(0.25, maximum=40))
    assert said_of(coin) == pytest.approx(said_of(plan(fr.gaussian_noise(2.0))), rel=0.02)
    assert said_of(coin, clients=80) == pytest.approx(2 * said_of(coin), rel=0.02)
    everybody = plan(fr.gaussian_noise(2.0), cohort=40)
    assert said_of(everybody, clients=10) == pytest.approx(said_of(plan(fr.gaussian_noise(2.0))), rel=0.02)
    assert warnings_of(plan(fr.gaussian_noise(0.5)), 40, 30) == []
    assert warnings_of(plan(fr.gaussian_noise(0.5)), 0, 30) == []


@pytest.mark.parametrize(
    "noise",
    [
        fr.gaussian_noise(3.0),
        fr.distributed_noise(multiplier=6.0, shares=5),
        fr.correlated_noise(3.0, bands=4),
    ],
)
def test_the_noise_is_that_of_a_round(noise: Any) -> None:
    """As a run reckons its own: all shares that come in, and later noise that takes back part of the earlier."""
    correlated = "correlated" in repr(noise)
    cohort = fr.cohort.in_turn(10, separation=4)
    given = plan(noise, fr.rotate(), cohort=cohort)
    spending = RunSpending(given, None, ENTROPY)
    signal = spending.signal_to_noise(np.ones(given.layout.size), weight=10.0, clients=10, session=10)
    assert signal is not None
    measured = signal.noise
    spending.close(finished=True)
    if correlated:
        measured /= float(np.linalg.norm(coefficients(4)))
        measured *= noise_error(30, 4) / noise_error(30, 1)
    assert said_of(given) == pytest.approx(1 / (measured * math.sqrt(given.layout.size)), rel=0.03)


def test_a_run_warns_once_and_its_folder_keeps_the_words(tmp_path: Path) -> None:
    given = plan(fr.gaussian_noise(3.0), budget=fr.Budget(math.inf, 1 / 40))
    with pytest.warns(fr.PrivacyWarning) as caught:
        made = run(given, 1, run=str(tmp_path / "run"))
    texts = [str(one.message) for one in caught]
    assert len(texts) == 2
    assert EXPOSED in texts[0]
    assert "noise in it" in texts[1]
    assert texts == made.header["privacy"]["warnings"] == warnings_of(given, 40, 1)
    kept = json.loads((tmp_path / "run" / "run.json").read_text("utf-8"))
    assert kept["privacy"]["warnings"] == texts


def test_a_plan_knows_of_its_cohort_alone() -> None:
    with pytest.warns(fr.PrivacyWarning, match="one of 10 devices to be exposed whole") as caught:
        plan(fr.gaussian_noise(1.0), budget=fr.Budget(math.inf, 0.1))
    assert len(caught) == 1
    with pytest.warns(fr.PrivacyWarning) as caught:
        fr.Plan(
            fr.classification(fr.zoo.logistic_regression(3, 2), loss_bound=5.0),
            local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=4),
            cohort=4,
            aggregation=fr.chain(fr.clip(1.0), fr.gaussian_noise(1.0)),
            privacy=fr.Budget(math.inf, 0.25),
        )
    assert caught[0].filename == __file__
    # Of a Poisson cohort it does not know how many there are, nor of others whether there are more.
    plan(fr.gaussian_noise(1.0), cohort=fr.cohort.poisson(0.1, maximum=40), budget=fr.Budget(math.inf, 0.1))
    plan(fr.gaussian_noise(1.0), budget=fr.Budget(math.inf, 0.09))


PRIVATE_FILE = """
import jax.numpy as jnp
import numpy as np
import optax
import fairyring as fr

rng = np.random.default_rng(0)
x = rng.normal(size=(40, 5)).astype(np.float32)
y = (x @ rng.normal(size=(5, 3))).argmax(1).astype(np.int32)
population = fr.partition.uniform({"x": x, "y": y}, clients=4, seed=0)
plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(5, 3), loss_bound=5.0),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=5),
    cohort=4,
    aggregation=fr.chain(fr.clip(0.5), fr.gaussian_noise(3.0)),
    privacy=fr.Budget(8.0, 0.25, rounds=3),
)
rounds = 3
"""


def test_the_terminal_says_it_before_and_after(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def simulate(
        given: fr.Plan, _: fr.Population, *, rounds: int, run: str, **options: Any
    ) -> SimpleNamespace:
        assert given.protection is not None
        promise = given.protection.describe() | {"spent": 1.0, "warnings": warnings_of(given, 4, rounds)}
        folder = make_run_folder(Path(run), rounds=rounds, run={"privacy": promise})
        return SimpleNamespace(
            records=[read_record(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
        )

    monkeypatch.setattr("fairyring.simulation.simulate", simulate)
    monkeypatch.setattr(_train, "_report", lambda folder: (None, ""))
    (tmp_path / "four_sites.py").write_text(PRIVATE_FILE)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # they are in the terminal's words, not in Python's
        _train.train(tmp_path / "four_sites.py", run=tmp_path / "run").show()
    before, after = capsys.readouterr().out.split("Training 3 rounds", 1)
    assert before.count("Warning. ") == 2
    for part in (before, after):
        assert "A delta of 0.25 allows one of 4 devices to be exposed whole" in part
        assert "there are 4." in part
