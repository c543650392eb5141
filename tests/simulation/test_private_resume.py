"""A private run that was interrupted: the same bits, spent once; and nothing new where the bits would be others."""

import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import BudgetSpent, LedgerDamaged, LedgerMismatch, PrivacyError
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.ledger import Ledger, Promise
from fairyring.privacy.participation import AtMost
from fairyring.simulation.spending import LEDGER, SECRET, RoundNoise
from tests.simulation.private_runs import (
    DELTA,
    Releases,
    compiled_once,
    ledger,
    people,
    plan,
    run,
    same_state,
)


@pytest.fixture(scope="module", autouse=True)
def _compiled_once():
    with compiled_once():
        yield


CENTRAL = plan(fr.gaussian_noise(1.5))
CORRELATED = plan(
    fr.correlated_noise(bands=4),
    cohort=fr.cohort.in_turn(10, separation=4),
    budget=fr.Budget(8.0, DELTA, rounds=12),
    bits=None,
)
SHARES = plan(fr.distributed_noise("skellam", 1.5, shares=5), bits=22)
assert CENTRAL.protection is not None
RELEASE = CENTRAL.protection.release
ROUNDS = 7


class Interrupted(Exception):
    """What stops a run in the middle."""


def interrupt(given: fr.Plan, folder: Path, after: int, **options) -> None:
    """Run until round `after` is over, and no further; checkpoints after every third."""

    def stop(record):
        if record["round"] == after:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(given, ROUNDS, run=folder, on_round=stop, checkpoint_every=3, **options)


def resume(given: fr.Plan, folder: Path, rounds: int = ROUNDS, **options) -> fr.Run:
    """Go on with no entropy given: the run's own secret is in its folder."""
    return run(given, rounds, run=folder, resume=True, checkpoint_every=3, **({"entropy": None} | options))


@pytest.mark.parametrize(
    ("given", "options"),
    [
        (CENTRAL, {}),
        (CENTRAL, {"dropout": 0.1, "secure_sum": "protocol"}),
        (CORRELATED, {}),
        pytest.param(SHARES, {"dropout": 0.1}, marks=pytest.mark.slow),
    ],
    ids=["central", "central protocol", "correlated", "shares"],
)
@pytest.mark.parametrize("after", [2, 5])
def test_going_on_gives_the_same_bits_and_spends_the_same(given, options, after, tmp_path):
    """Stopped after round 2 there is no checkpoint; after round 5 that of round 3: two rounds are made again."""
    whole = run(given, ROUNDS, run=tmp_path / "whole", **options)
    interrupt(given, tmp_path / "parts", after, **options)
    before = ledger(tmp_path / "parts")
    assert len(before.reservations) == after
    parts = resume(given, tmp_path / "parts", **options)
    assert same_state(whole, parts)
    assert parts.header["privacy"]["spent"] == whole.header["privacy"]["spent"]
    assert [r["round"] for r in parts.metrics] == list(range(1, ROUNDS + 1))
    # What was made again was released before, with the same digest: nothing was reserved for it.
    after_it = ledger(tmp_path / "parts")
    numbers = [one.round for one in after_it.reservations.values()]
    assert numbers == list(range(1, ROUNDS + 1))
    assert [e.hash for e in after_it.entries[: len(before.entries)]] == [e.hash for e in before.entries]
    assert not (tmp_path / "parts" / SECRET).exists()


@pytest.fixture(scope="module")
def stopped(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("stopped") / "run"
    interrupt(CENTRAL, folder, 5)
    return folder


@pytest.fixture
def copy(stopped, tmp_path) -> Path:
    return Path(shutil.copytree(stopped, tmp_path / "run"))


def released(folder: Path) -> int:
    return sum(1 for one in ledger(folder).reservations.values() if one.digest)


def test_another_secret_would_make_a_second_release_of_the_same_round(copy):
    (copy / SECRET).write_bytes(bytes(32))
    with pytest.raises(PrivacyError, match=r"round 4.*another result than the one released before") as caught:
        resume(CENTRAL, copy)
    assert "start a new run" in caught.value.do
    assert released(copy) == 5
    assert len(ledger(copy).reservations) == 5
    lines = (copy / "metrics.jsonl").read_bytes().splitlines()
    assert len(lines) == 3  # those of the checkpoint: round 4 was not told again


def test_a_lost_secret_is_as_another(copy):
    (copy / SECRET).unlink()
    with pytest.raises(PrivacyError, match="round 4"):
        resume(CENTRAL, copy)
    assert released(copy) == 5


def test_a_secret_that_was_cut_is_refused_and_not_shown(copy):
    (copy / SECRET).write_bytes(b"\x07" * 31)
    with pytest.raises(PrivacyError, match="31 bytes") as caught:
        resume(CENTRAL, copy)
    assert "\\x07" not in str(caught.value)
    assert "0707" not in str(caught.value)


def test_another_checkpoint_would_make_a_second_release_too(copy):
    """The model of round 3 with one weight changed, and its digest made to fit."""
    import safetensors.numpy

    path = copy / "checkpoints" / "round-000003.safetensors"
    with safetensors.safe_open(path, "numpy") as file:
        metadata = file.metadata()
    arrays = safetensors.numpy.load_file(path)
    name = next(name for name in arrays if name.startswith("server/") and name.endswith("['w']"))
    arrays[name] = arrays[name] + np.float32(0.5)
    safetensors.numpy.save_file(arrays, path, metadata)
    with pytest.raises((PrivacyError, fr.RunDamaged)):
        resume(CENTRAL, copy)
    assert released(copy) == 5


def test_other_data_under_the_same_name_is_refused(copy):
    with pytest.raises(fr.RunMismatch, match="another population"):
        resume(CENTRAL, copy, population=people(40, 4))


def ledger_files(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.name.startswith("ledger"))


def test_an_older_ledger_copied_back_is_refused(tmp_path):
    folder = tmp_path / "run"
    interrupt(CENTRAL, folder, 4)
    older = tmp_path / "older"
    older.mkdir()
    for path in ledger_files(folder):
        shutil.copy(path, older)
    with pytest.raises(Interrupted):
        resume(CENTRAL, folder, on_round=_stop_at_6)
    # The database alone: the head beside it knows more.
    (folder / LEDGER).write_bytes((older / LEDGER).read_bytes())
    for path in ledger_files(folder):
        if path.name.endswith(("-wal", "-shm")):
            path.unlink()
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, folder)
    # With its head: the checkpoint of round 6 knows more.
    for path in ledger_files(folder):
        path.unlink()
    for path in older.iterdir():
        shutil.copy(path, folder)
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, folder)


def _stop_at_6(record):
    if record["round"] == 6:
        raise Interrupted


def test_no_ledger_at_all_is_not_a_new_one(copy):
    (copy / LEDGER).unlink()
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, copy)
    for path in ledger_files(copy):
        path.unlink()
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, copy)


def test_a_ledger_that_was_written_into_is_refused(copy):
    with sqlite3.connect(copy / LEDGER) as database:
        names = [name for (name,) in database.execute("select name from sqlite_master where type = 'table'")]
        assert names
        for name in names:
            database.execute(f"delete from {name} where rowid = (select max(rowid) from {name})")
    database.close()
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, copy)


def test_the_ledger_of_another_plan(copy):
    for path in ledger_files(copy):
        path.unlink()
    other = Promise("ab" * 32, math.inf, DELTA, AtMost())
    Ledger(copy / LEDGER, other, accountant=Accountant(AtMost(), DELTA)).close()
    with pytest.raises(LedgerMismatch, match="a ledger whose plan is"):
        resume(CENTRAL, copy)


def test_the_plan_of_another_promise(copy):
    """The same noise under a larger budget is another promise."""
    with pytest.raises((fr.RunMismatch, LedgerMismatch)):
        resume(plan(fr.gaussian_noise(1.5), budget=fr.Budget(50.0, DELTA)), copy)


def test_a_round_that_fell_between_reserve_and_release_counts_and_is_made_anew(tmp_path, monkeypatch):
    """With a reservation of its own, and so with noise of its own: what may have been seen of the first stays hidden."""
    drawn = []
    real = RoundNoise.release

    def release(noise, total, clients, *, shared):
        noisy = real(noise, total, clients, shared=shared)
        if noise.round == 3:
            drawn.append((noise.number, np.array(noisy - total)))
        return noisy

    def crash(noise, total, clients, *, shared):
        if noise.round == 3:
            drawn.append((noise.number, noise._drawn.result()))
            raise Interrupted
        return real(noise, total, clients, shared=shared)

    folder = tmp_path / "run"
    monkeypatch.setattr(RoundNoise, "release", crash)
    with pytest.raises(Interrupted):
        run(CENTRAL, ROUNDS, run=folder, checkpoint_every=1)
    monkeypatch.setattr(RoundNoise, "release", release)
    made = resume(CENTRAL, folder)
    (first, lost), (second, used) = drawn
    assert second != first
    assert np.mean(lost[:200] == used[:200].view(np.int32)) < 0.2
    history = ledger(folder)
    assert sum(history.counts().values()) == ROUNDS + 1
    expected = Accountant(AtMost(), DELTA).spent(history.counts()).epsilon
    assert made.header["privacy"]["spent"] == expected
    assert made.header["privacy"]["releases"] == ROUNDS
    assert made.header["privacy"]["reservations"] == ROUNDS + 1


def test_a_run_saved_without_its_ledger_cannot_go_on(tmp_path):
    """What it spent was counted in memory alone: going on would count from nothing."""
    run(CENTRAL, 3).save(tmp_path / "run")
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, tmp_path / "run")


# -- over the budget ------------------------------------------------------------------------------------------


def epsilon_of(rounds: int) -> float:
    return Accountant(AtMost(), DELTA).spent({RELEASE: rounds}).epsilon


SHORT = plan(fr.gaussian_noise(1.5), budget=fr.Budget(epsilon_of(3) + 0.01, DELTA))


def test_a_run_stops_before_the_round_that_would_spend_too_much(tmp_path, monkeypatch):
    found = Releases(monkeypatch)
    made = run(SHORT, rounds=6, run=tmp_path / "run", checkpoint_every=1)
    assert made.header["status"] == "stopped"
    assert made.header["stopped_by"] == "budget"
    assert len(made.metrics) == len(found.numbers) == 3
    assert made.header["privacy"]["spent"] == pytest.approx(epsilon_of(3))
    history = ledger(tmp_path / "run")
    assert len(history.reservations) == 3
    # The same model as that of a run which was never to go further.
    assert same_state(made, run(CENTRAL, rounds=3))
    names = sorted(path.name for path in (tmp_path / "run" / "checkpoints").iterdir())
    assert "round-000004.safetensors" not in names
    # Nothing can come of the secret any more: it is gone.
    assert not (tmp_path / "run" / SECRET).exists()
    again = run(SHORT, rounds=6, run=tmp_path / "run", resume=True)
    assert again.header["stopped_by"] == "budget"
    assert same_state(made, again)


def test_not_even_a_first_round():
    with pytest.raises(
        BudgetSpent, match=r"epsilon 0 spent.*the release of round 1.*larger budget or more noise"
    ):
        run(plan(fr.gaussian_noise(1.5), budget=fr.Budget(epsilon_of(1) - 0.01, DELTA)))


@pytest.mark.slow
def test_what_was_calibrated_for_so_many_rounds_spends_the_budget_in_them():
    given = plan(fr.gaussian_noise(), budget=fr.Budget(6.0, DELTA, rounds=4))
    made = run(given, rounds=4)
    assert made.header["status"] == "finished"
    assert 0.99 * 6.0 < made.header["privacy"]["spent"] <= 6.0
    assert [record["epsilon"] for record in made.metrics] == sorted(r["epsilon"] for r in made.metrics)


@pytest.mark.slow
def test_killed_again_and_again_a_run_never_spends_more_than_it_may(tmp_path):
    """SIGKILL at every point of a round: what was reserved counts, and the budget ends the run, not the kills."""
    folder = tmp_path / "run"
    places = ["reserved", "computed", "released", "told"]
    command = [sys.executable, "-m", "tests.simulation.private_killed", str(folder)]
    cache = {
        "JAX_COMPILATION_CACHE_DIR": str(tmp_path / "cache"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0.1",
    }
    seen = 0
    for attempt, place in enumerate(places):
        more = ["resume"] if attempt else []
        done = subprocess.run(
            [*command, place, str(attempt + 2), *more],
            env={**os.environ, **cache},
            capture_output=True,
            text=True,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        history = ledger(folder)
        assert len(history.reservations) > seen
        seen = len(history.reservations)
        spent = Accountant(AtMost(), DELTA).spent(history.counts()).epsilon
        assert spent <= history.promise.epsilon
        assert sum(history.counts().values()) == seen  # crashed ones too
    done = subprocess.run(
        [*command, "never", "0", "resume"], env={**os.environ, **cache}, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    history = ledger(folder)
    assert done.stdout.split()[-2:] == ["stopped", "budget"]
    counts = history.counts()
    assert Accountant(AtMost(), DELTA).spent(counts).epsilon <= history.promise.epsilon
    # Two kills cost a release, which nobody may have seen. Of the others the round was told already, or was made again
    # and found to be the same.
    digests = [one.digest for one in history.reservations.values() if one.digest]
    assert len(set(digests)) == len(digests)
    assert sum(counts.values()) == 8
    assert len(digests) == 6
    made = [one.round for one in history.reservations.values() if one.digest]
    assert made == list(range(1, 7))
