"""What several runs over the same people spend, by their ledgers."""

import math
import shutil
from pathlib import Path

import dp_accounting as dp
import pytest

import fairyring as fr
from fairyring.cli import _ledger as command
from fairyring.core.errors import PlanError
from fairyring.core.rounding import at_most
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.ledger import Ledger, Promise
from fairyring.privacy.participation import AtMost, PoissonSampled
from fairyring.privacy.release import Release

DELTA = 1e-6
GAUSSIAN = Release("gaussian", 4.0)
CORRELATED = Release("correlated", 6.0, bands=3)
SKELLAM = Release("skellam", 3.0, 0, 64, 210.0, 1600.0, 20, 3.0 * 210.0 / math.sqrt(20), 200.0)
TURNS = AtMost(None, 10)


def run_of(folder: Path, release: Release, rounds: int, participation=TURNS, delta: float = DELTA) -> Path:
    """A folder with the ledger of a run of so many rounds."""
    folder.mkdir()
    accountant = Accountant(participation, delta)
    promise = Promise("ab" * 32, math.inf, delta, participation)
    with Ledger(folder / "ledger.sqlite", promise, accountant=accountant, durable=False) as ledger:
        for round in range(1, rounds + 1):
            ledger.release(ledger.reserve(round, release), bytes(32))
    return folder


def test_a_second_run_of_a_plan_spends_as_more_rounds_would(tmp_path):
    first, second = (run_of(tmp_path / name, GAUSSIAN, 10) for name in "ab")
    alone = fr.privacy.together([first])
    assert alone.epsilon == Accountant(TURNS, DELTA).spent({GAUSSIAN: 10}).epsilon
    both = fr.privacy.together([first, second])
    # Once in each, and perhaps in the last round of one and the first of the other.
    assert both.epsilon == pytest.approx(Accountant(AtMost(), DELTA).spent({GAUSSIAN: 2}).epsilon)
    assert alone.epsilon < both.epsilon < 2 * alone.epsilon


def test_runs_of_different_noise_are_added_up(tmp_path):
    gaussian, correlated = run_of(tmp_path / "a", GAUSSIAN, 25), run_of(tmp_path / "b", CORRELATED, 25)
    skellam = run_of(tmp_path / "c", SKELLAM, 25, delta=1e-5)
    exact = fr.privacy.together([gaussian, correlated])
    alone = [Accountant(TURNS, DELTA).spent({one: 25}).epsilon for one in (GAUSSIAN, CORRELATED, SKELLAM)]
    # Gaussians compose to one: sigma by sigma, found from each epsilon by another road.
    sigmas = [dp.get_sigma_gaussian(epsilon, DELTA) for epsilon in alone[:2]]
    expected = dp.get_epsilon_gaussian(sum(s**-2 for s in sigmas) ** -0.5, DELTA)
    assert exact.epsilon == pytest.approx(expected, rel=1e-6)
    assert "exact Gaussian" in exact.accountant
    mixed = fr.privacy.together([gaussian, correlated, skellam])
    assert mixed.delta == DELTA
    assert max(exact.epsilon, alone[2]) < mixed.epsilon < sum(alone)
    assert "RDP" in mixed.accountant


def test_runs_that_rest_on_secret_sampling_may_have_drawn_the_same_people(tmp_path):
    """Two runs of one seed release one sample twice: nothing is claimed of the sampling."""
    runs = [run_of(tmp_path / name, GAUSSIAN, 10, PoissonSampled(0.1)) for name in "ab"]
    result = fr.privacy.together(runs)
    assert result.epsilon == pytest.approx(Accountant(AtMost(), DELTA).spent({GAUSSIAN: 20}).epsilon)
    assert "no amplification" in result.sampling


def test_what_cannot_be_added_up(tmp_path):
    one = run_of(tmp_path / "a", GAUSSIAN, 1)
    for runs, message in (([], "none"), ([one, tmp_path / "a" / "ledger.sqlite"], "twice")):
        with pytest.raises(PlanError, match=message):
            fr.privacy.together(runs)
    copy = shutil.copytree(one, tmp_path / "copy")
    with pytest.raises(PlanError, match="copies of one run, whose noise is the same"):
        fr.privacy.together([one, copy])
    with pytest.raises(PlanError, match="delta"):
        fr.privacy.together([one], delta=0.0)
    with pytest.raises(fr.RunError, match="no such file"):
        fr.privacy.together([one, tmp_path / "b"])


def test_the_command_adds_up(tmp_path, capsys):
    runs = [run_of(tmp_path / name, GAUSSIAN, 10) for name in "ab"]
    command.total(runs).show()
    text = " ".join(capsys.readouterr().out.split())
    assert f"Together they spend epsilon {at_most(fr.privacy.together(runs).epsilon)}" in text
    assert text.count("10 releases") == 2
    with pytest.raises(PlanError, match="--head"):
        command.total(runs, "1:abc")
