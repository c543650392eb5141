"""A private run that was interrupted: the same bits, spent once; and nothing new where the bits would be others."""

import json
import math
import os
import shutil
import signal
import sqlite3
import subprocess
import sys
import warnings
from dataclasses import replace
from itertools import product
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import BudgetSpent, LedgerDamaged, LedgerMismatch, PrivacyError
from fairyring.core.lock import Lock
from fairyring.privacy._checks import counts as checked
from fairyring.privacy._composing import equivalent
from fairyring.privacy.accounting import Accountant
from fairyring.privacy.correlated import coefficients
from fairyring.privacy.ledger import Ledger, Promise
from fairyring.privacy.participation import AtMost
from fairyring.records.folder import RunFolder
from fairyring.records.layout import LEDGER, SECRET
from fairyring.rounds.cohorts import CohortSampler, DropoutPoint
from fairyring.rounds.spending import EarlierRounds, RoundNoise, RunSpending
from tests.simulation.private_runs import (
    DELTA,
    Releases,
    compiled_once,
    counted,
    ledger,
    people,
    plan,
    run,
    same_state,
)

pytestmark = pytest.mark.optimised


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
IN_TURN = plan(
    fr.distributed_noise("skellam", 1.5, shares=5), cohort=fr.cohort.in_turn(10, separation=4), bits=22
)
assert CENTRAL.protection is not None
RELEASE = CENTRAL.protection.release
ROUNDS = 7


class Interrupted(Exception):
    """What stops a run in the middle."""


def interrupt(given: fr.Plan, folder: Path, after: int, **options) -> None:
    """Run until round `after` is over, and no further; checkpoints after every third."""

    def stop(record):
        if record.round == after:
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
def test_going_on_gives_the_same_bits_and_spends_the_same(given, options, tmp_path):
    """Stopped after round 2 there is no checkpoint; after round 5 that of round 3: two rounds are made again."""
    whole = run(given, ROUNDS, run=tmp_path / "whole", **options)
    for after in (2, 5):
        folder = tmp_path / f"parts {after}"
        interrupt(given, folder, after, **options)
        before = ledger(folder)
        assert len(before.reservations) == after
        parts = resume(given, folder, **options)
        assert same_state(whole, parts)
        assert parts.header["privacy"]["spent"] == whole.header["privacy"]["spent"]
        assert [r.round for r in parts.records] == list(range(1, ROUNDS + 1))
        # What was made again was released before, with the same digest: nothing was reserved for it.
        after_it = ledger(folder)
        numbers = [one.round for one in after_it.reservations.values()]
        assert numbers == list(range(1, ROUNDS + 1))
        assert [e.hash for e in after_it.entries[: len(before.entries)]] == [e.hash for e in before.entries]
        assert not (folder / SECRET).exists()


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


def test_a_lost_secret_is_not_replaced(copy):
    (copy / SECRET).unlink()
    with pytest.raises(
        fr.RunDamaged, match=r"noise.key: given no such file, in the folder of a run that has not"
    ):
        resume(CENTRAL, copy)
    assert not (copy / SECRET).exists()
    assert released(copy) == 5


@pytest.mark.parametrize("shown", ["checkpoint", "metrics alone"])
def test_a_lost_ledger_is_not_begun_anew(copy, shown):
    for name in ("ledger.sqlite", "ledger.head", SECRET):
        (copy / name).unlink()
    if shown == "metrics alone":
        shutil.rmtree(copy / "checkpoints")
    with pytest.raises(LedgerDamaged, match="has released rounds"):
        resume(CENTRAL, copy)
    assert not (copy / "ledger.sqlite").exists()


def test_a_ledger_without_a_round_that_the_folder_shows_is_not_the_runs(copy):
    for name in ("ledger.sqlite", "ledger.head"):
        (copy / name).unlink()
    shutil.rmtree(copy / "checkpoints")
    protection = CENTRAL.protection
    named = json.loads((copy / "run.json").read_text())["fingerprints"]["plan"]
    promise = Promise(named, math.inf, DELTA, protection.participation)
    with Ledger(copy / "ledger.sqlite", promise, accountant=Accountant(AtMost(), DELTA)) as other:
        other.reserve(1, protection.release)
    with pytest.raises(LedgerDamaged, match="no reservation of round 2"):
        resume(CENTRAL, copy)


def test_a_secret_that_was_cut_is_refused_and_not_shown(copy):
    (copy / SECRET).write_bytes(b"\x07" * 31)
    with pytest.raises(fr.RunDamaged, match="31 bytes") as caught:
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
    if record.round == 6:
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
    release = CENTRAL.protection.release
    assert history.spent().counts == {release: ROUNDS - 1, (release, release): 1}
    expected = Accountant(AtMost(), DELTA).spent({release: ROUNDS + 1}).epsilon
    assert made.header["privacy"]["spent"] == expected
    assert made.header["privacy"]["releases"] == ROUNDS
    assert made.header["privacy"]["reservations"] == ROUNDS + 1


def test_a_run_saved_afterwards_counts_what_it_had_spent_and_cannot_go_on_without_its_ledger(tmp_path):
    (first := run(CENTRAL, 3)).save(tmp_path / "run")
    spent = [one.header["privacy"] for one in (resume(CENTRAL, tmp_path / "run"), run(CENTRAL, ROUNDS))]
    assert spent[0]["releases"] == spent[1]["releases"] == ROUNDS
    assert spent[0]["spent"] == spent[1]["spent"] > first.header["privacy"]["spent"]
    with pytest.raises(fr.RunError, match="the budget would be spent twice"):
        first.save(tmp_path / "second")
    first.ledger, first.folder = (), None
    first.save(tmp_path / "without")
    with pytest.raises(LedgerDamaged):
        resume(CENTRAL, tmp_path / "without")


# -- a crash is a release, and one process a folder -----------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [SHARES, pytest.param(IN_TURN, marks=pytest.mark.slow)],
    ids=["every round", "in turn"],
)
def test_what_a_server_saw_before_each_crash_is_counted(given, tmp_path, monkeypatch):
    """Under shares of noise and the real protocol a server has its noisy sum before the ledger has the release."""
    folder, seen = tmp_path / "run", []
    real = RoundNoise.release

    def crash(noise, total, clients, *, shared):
        if noise.round == 1:
            seen.append(np.array(total))
            raise Interrupted
        return real(noise, total, clients, shared=shared)

    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "release", crash)
        for attempt in range(4):
            with pytest.raises(Interrupted):
                run(given, ROUNDS, run=folder, resume=attempt > 0, entropy=None, secure_sum="protocol")
    assert len({sums.tobytes() for sums in seen}) == 4  # four looks at one round, each under noise of its own
    made = run(given, 1, run=folder, resume=True, entropy=None, secure_sum="protocol")
    history = ledger(folder)
    (kind,) = history.spent().counts
    assert isinstance(kind, tuple)
    assert len(kind) == 5
    assert [one.lost for one in history.reservations.values()] == [True] * 4 + [False]
    worst = Accountant(AtMost(), DELTA).spent({kind: 1}).epsilon
    assert made.header["privacy"]["spent"] == worst > Accountant(AtMost(), DELTA).spent({kind[0]: 1}).epsilon
    assert made.header["privacy"]["lost"] == 4


def test_a_crash_may_cost_the_rest_of_the_budget(tmp_path, monkeypatch):
    afforded = Accountant(AtMost(), DELTA).spent({RELEASE: 3}).epsilon + 1e-6
    given = replace(CENTRAL, privacy=fr.Budget(afforded, DELTA))
    folder = tmp_path / "run"

    def crash(*_, **__):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "release", crash)
        for attempt in range(2):
            with pytest.raises(Interrupted):
                run(given, ROUNDS, run=folder, resume=attempt > 0)
    made = resume(given, folder)
    assert (len(made.records), made.header["stopped_by"]) == (1, "budget")
    assert made.header["privacy"]["spent"] <= afforded


def test_a_sum_the_server_could_have_made_counts_though_it_says_there_is_none(tmp_path, monkeypatch):
    """Nobody answers in the last stage, or the server says so: where it is not trusted with the noise, that is a release."""
    everybody = {client: DropoutPoint.BEFORE_UNMASKING for client in range(40)}
    monkeypatch.setattr(CohortSampler, "dropout_points", lambda self, cohort: everybody)
    for given, counts in ((SHARES, True), (CENTRAL, False)):
        made = run(given, 2, secure_sum="protocol", run=tmp_path / repr(counts))
        assert [record.aborted.stage for record in made.records] == ["unmasking"] * 2
        found = ledger(tmp_path / repr(counts)).reservations.values()
        assert [one.lost for one in found] == [counts] * 2
        assert (made.header["privacy"]["spent"] > 0) == counts


def test_a_run_that_goes_on_takes_back_what_it_said_at_its_end(tmp_path):
    """Killed on the way to more rounds, its record promises nothing, and says that the secret is there again."""
    folder = tmp_path / "run"
    run(CENTRAL, 2, run=folder, entropy=None)
    assert json.loads((folder / "run.json").read_text())["privacy"]["spent"] > 0

    def stop(record):
        raise Interrupted

    with pytest.raises(Interrupted):
        run(CENTRAL, 5, run=folder, resume=True, on_round=stop)  # with entropy that the test knows
    said = json.loads((folder / "run.json").read_text())
    assert said["status"] == "running"
    assert "spent" not in said["privacy"]
    assert said["entropy"] == "given"
    assert any("noise.key" in one["names"] for one in said["outside"])
    made = resume(CENTRAL, folder, 5)
    assert made.header["entropy"] == "given"
    assert "given by the caller" in made.header["privacy"]["why_nothing"]


def test_a_sealed_run_that_has_nothing_left_to_spend_stays_whole_however_often_it_is_resumed(tmp_path):
    afforded = Accountant(AtMost(), DELTA).spent({RELEASE: 2}).epsilon + 1e-6
    given, folder = replace(CENTRAL, privacy=fr.Budget(afforded, DELTA)), tmp_path / "run"
    run(given, 5, run=folder, secure_sum="protocol")
    for _ in range(2):
        assert fr.verify_run(folder).whole
        made = run(given, 5, run=folder, secure_sum="protocol", resume=True)
        assert (made.header["stopped_by"], len(made.records)) == ("budget", 2)
    assert fr.verify_run(folder).whole


def test_an_error_while_a_run_is_set_up_lets_its_folder_go(tmp_path):
    """As where a warning is made one: nobody is left who writes it."""
    small = replace(CENTRAL, privacy=fr.Budget(math.inf, 0.05))
    with warnings.catch_warnings():
        warnings.simplefilter("error", fr.PrivacyWarning)
        with pytest.raises(fr.PrivacyWarning) as caught:
            run(small, 2, run=tmp_path / "run")
    assert caught.value.args
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", fr.PrivacyWarning)
        assert len(run(small, 2, run=tmp_path / "run", resume=True).records) == 2


def test_a_lost_ledger_is_refused_however_often_one_asks(tmp_path):
    """Before the first checkpoint only the rounds' records tell that there was one."""
    folder = tmp_path / "run"

    def stop(record):
        if record.round == 3:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(CENTRAL, ROUNDS, run=folder, on_round=stop, checkpoint_every=100)
    for name in ("ledger.sqlite", "ledger.head", SECRET):
        (folder / name).unlink()
    for _ in range(2):
        with pytest.raises(LedgerDamaged, match="has released rounds"):
            resume(CENTRAL, folder)
        assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3


def test_a_cancelled_round_of_correlated_noise_stays_what_it_was_when_the_run_is_resumed(
    tmp_path, monkeypatch
):
    """Later rounds have taken its noise back: they are computed again to the same bits."""
    given = plan(
        fr.correlated_noise(2.0, bands=4),
        cohort=fr.cohort.in_turn(10, separation=4),
        secure={"minimum_cohort": 9},
    )
    stay = CohortSampler._stay
    monkeypatch.setattr(
        CohortSampler, "_stay", lambda self, n, sampled: stay(self, n, sampled)[: 5 if n == 2 else 10]
    )
    whole = run(given, 5)
    folder = tmp_path / "run"

    def stop(record):
        if record.round == 5:
            raise Interrupted

    with pytest.raises(Interrupted):
        run(given, 6, run=folder, on_round=stop, checkpoint_every=100)
    made = resume(given, folder, 5)
    assert same_state(made, whole)
    assert [one.cancelled for one in ledger(folder).reservations.values()].count(True) == 2


def test_a_cancelled_round_of_correlated_noise_may_crash_when_it_is_run_again(tmp_path, monkeypatch):
    """The rounds after it were released under the noise it had then, and come to the same bits still."""
    given = plan(
        fr.correlated_noise(2.0, bands=4),
        cohort=fr.cohort.in_turn(10, separation=4),
        secure={"minimum_cohort": 9},
    )
    stay = CohortSampler._stay
    monkeypatch.setattr(
        CohortSampler, "_stay", lambda self, n, sampled: stay(self, n, sampled)[: 5 if n == 2 else 10]
    )
    whole, folder = run(given, 4), tmp_path / "run"

    def stop(*_, **__):
        raise Interrupted

    with pytest.raises(Interrupted):
        run(given, 5, run=folder, on_round=lambda r: r.round == 4 and stop(), checkpoint_every=100)
    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "cancel", stop)
        with pytest.raises(Interrupted):
            run(given, 5, run=folder, resume=True)
    made = run(given, 4, run=folder, resume=True)
    assert same_state(made, whole)
    second = [one for one in ledger(folder).reservations.values() if one.round == 2]
    assert [(one.cancelled, one.lost) for one in second] == [(True, False), (False, True), (True, False)]


def test_what_is_seen_of_correlated_noise_is_what_is_counted_however_often_it_crashes():
    """All sums that somebody may have seen, as a linear map of the data and of independent noise, by random fates."""
    given = plan(fr.correlated_noise(2.0, bands=3), cohort=fr.cohort.in_turn(10, separation=3), bits=None)
    protection, weights, rounds = given.protection, coefficients(3), 6
    dice = np.random.default_rng(3)
    for _ in range(5):
        empty = set((1 + np.flatnonzero(dice.random(rounds) < 0.3)).tolist()) - {rounds}
        seen, told = [], {}
        with TemporaryDirectory() as place:
            for attempt in range(8):
                earlier = EarlierRounds(frozenset(told), over=False, head=None) if attempt else None
                spending = RunSpending(given, Path(place), bytes(32), earlier)
                asked = []

                def drawn(round, numbers, asked=asked):
                    asked.append((round, dict(numbers)))

                spending.source.of_server = drawn
                for t in range(1, rounds + 1):
                    noise = spending.begin(t, 10, 10)
                    noise._drawn.result()
                    row = {asked[-1][1][t - j]: weights[j] for j in range(min(3, t))}
                    if noise.again:
                        assert row == told[t]
                    elif attempt < 7 and dice.random() < 0.25:
                        seen.append((t, row))  # it crashed, and somebody may have seen it
                        break
                    elif t in empty:
                        noise.cancel()
                    else:
                        spending.ledger.release(noise.number, bytes(32))
                        told[t] = row
                        seen.append((t, row))
                tally = spending.ledger.tally()
                spending.close(finished=False)
        counted_as = protection.release.multiplier / equivalent(
            checked(tally.counts), protection.participation, tally.rounds
        )
        sums = [t for t, _ in seen], [tuple(row.items()) for _, row in seen]
        different = list(dict.fromkeys(zip(*sums, strict=True)))
        names = sorted({number for _, row in different for number, _ in row})
        mixing = np.array([[dict(row).get(n, 0.0) for n in names] for _, row in different])
        data = np.array([[float(t == s) for s in range(1, rounds + 1)] for t, _ in different])
        told_by = data.T @ np.linalg.inv(mixing @ mixing.T) @ data
        worst = max(
            float(x @ told_by @ x)
            for first in range(3)
            for x in np.array(list(product([-1, 0, 1], repeat=2))) @ np.eye(rounds)[first::3]
        )
        assert worst**0.5 <= counted_as * (1 + 1e-9)


@pytest.mark.parametrize("name", ["checkpoint", "write", "write_arrays"])
@pytest.mark.parametrize("given", ["all rounds", "all of the budget"])
def test_a_run_whose_end_cannot_be_written_keeps_what_it_needs_to_end(given, name, tmp_path, monkeypatch):
    """A full disk: the secret, without which the rounds since the last checkpoint are lost, goes last."""
    budget = fr.Budget(epsilon_of(3) + 0.01, DELTA) if given == "all of the budget" else CENTRAL.privacy
    spent, folder = replace(CENTRAL, privacy=budget), tmp_path / "run"
    rounds = 3 if given == "all rounds" else 6
    real = getattr(RunFolder, name)

    def full(self, *what):
        if what[0] == "run.json" and what[1]["status"] == "running":
            return real(self, *what)
        if name == "write" and what[0] != "run.json":
            return real(self, *what)
        raise fr.StorageError("the folder", given="no space", expected="some", do="Free some.")

    with monkeypatch.context() as patch:
        patch.setattr(RunFolder, name, full)
        with pytest.raises(fr.StorageError):
            run(spent, rounds, run=folder, checkpoint_every=100)
    assert (folder / SECRET).exists()
    assert json.loads((folder / "run.json").read_text())["status"] == "running"
    made = run(spent, rounds, run=folder, resume=True, entropy=None)
    assert same_state(made, run(CENTRAL, 3))
    assert len(ledger(folder).reservations) == 3
    assert not (folder / SECRET).exists()


@pytest.mark.parametrize("secure_sum", ["ideal", "protocol"])
def test_a_run_that_ends_before_rounds_it_had_released_says_so_and_can_go_on(secure_sum, tmp_path):
    """Rounds 4 and 5 are spent, and in no model: no record tells of them, and only the same bits can come of them."""
    folder = tmp_path / "run"
    interrupt(CENTRAL, folder, 5, secure_sum=secure_sum)
    made = resume(CENTRAL, folder, 2, secure_sum=secure_sum)
    said = json.loads((folder / "run.json").read_text())
    assert (len(made.records), said["status"], said["rounds"]) == (3, "finished", 3)
    assert len((folder / "metrics.jsonl").read_text().splitlines()) == 3
    assert said["privacy"]["releases"] == 5
    if secure_sum == "protocol":
        assert fr.verify_run(folder).rounds == 3
    assert (folder / SECRET).exists()
    assert any("noise.key" in one["names"] for one in said["outside"])
    whole = resume(CENTRAL, folder, 5, secure_sum=secure_sum)
    assert same_state(whole, run(CENTRAL, 5))
    assert len(ledger(folder).reservations) == 5
    assert not (folder / SECRET).exists()


def test_a_lost_ledger_is_not_begun_anew_where_no_round_was_over(tmp_path, monkeypatch):
    """Killed in its first round: the secret tells that there was a ledger, and so a round that may have been seen."""
    folder = tmp_path / "run"

    def crash(*_, **__):
        raise Interrupted

    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "release", crash)
        with pytest.raises(Interrupted):
            run(CENTRAL, ROUNDS, run=folder)
    for name in ("ledger.sqlite", "ledger.head"):
        (folder / name).unlink()
    with pytest.raises(LedgerDamaged, match="or may have"):
        resume(CENTRAL, folder)


def test_what_an_audit_found_and_that_there_were_tests_is_not_forgotten_when_a_run_is_resumed(
    tmp_path, monkeypatch
):
    folder = tmp_path / "run"
    with monkeypatch.context() as patch:
        patch.setattr(RoundNoise, "release", lambda noise, total, clients, *, shared: total)
        run(CENTRAL, 2, run=folder, entropy=None, audit=fr.privacy.DirectCheck(), test=people(6))

    def stop(record):
        raise Interrupted

    def said():
        return json.loads((folder / "run.json").read_text())

    with pytest.raises(Interrupted):
        resume(CENTRAL, folder, 3, on_round=stop)
    assert not said()["audit"]["mechanism"]["holds"]
    for options in ({}, {"audit": fr.privacy.DirectCheck()}):  # of a round that holds
        resume(CENTRAL, folder, 3, **options)
        assert said()["privacy"]["why_nothing"] == "the audit contradicts what was claimed"
        titles = [one["title"] for one in said()["assumptions"]]
        assert "Evaluations on held-out data are not covered" in titles
        assert any("metrics.jsonl: test.*" in one["names"] for one in said()["outside"])


def test_a_lock_that_cannot_be_written_is_let_go(tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "ftruncate", full)
        with pytest.raises(fr.StorageError, match="No space left"):
            Lock(tmp_path / "lock")
    Lock(tmp_path / "lock").release()


def test_one_process_writes_a_folder(tmp_path):
    """Another one is told who has it; a kill lets it go, whatever the file says."""
    folder = tmp_path / "run"
    interrupt(CENTRAL, folder, after=2)
    code = "import sys; from fairyring.records.folder import RunFolder; held = RunFolder.open(sys.argv[1]).hold(); print('held', flush=True); sys.stdin.read()"
    other = subprocess.Popen(
        [sys.executable, "-c", code, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    before = (folder / "run.json").read_bytes(), ledger(folder).head
    with pytest.raises(
        fr.RunError, match=rf"written by process {other.pid} on .* since .*one process a folder"
    ):
        resume(CENTRAL, folder)
    assert ((folder / "run.json").read_bytes(), ledger(folder).head) == before
    other.kill()
    other.wait()
    other.stdout.close()
    assert other.stdin is not None
    other.stdin.close()
    assert f"process {other.pid}" in (folder / "lock").read_text()  # what is written there locks nothing
    assert len(resume(CENTRAL, folder, 3).records) == 3
    assert (folder / "lock").read_bytes() == b""


def test_two_runs_of_one_process_do_not_share_a_folder(tmp_path):
    folder, refused = tmp_path / "run", []

    def meanwhile(record):
        with pytest.raises(fr.RunError, match=f"process {os.getpid()}") as caught:
            resume(CENTRAL, folder)
        refused.append(str(caught.value))

    made = run(CENTRAL, 2, run=folder, on_round=meanwhile)
    assert len(refused) == 2
    assert made.header["privacy"]["reservations"] == 2


def test_correlated_noise_does_not_go_on_once_its_secret_is_gone(tmp_path):
    folder = tmp_path / "run"
    run(CORRELATED, 4, run=folder)
    with pytest.raises(fr.RunError, match=r"noise\.key.*is deleted once a run is over") as caught:
        run(CORRELATED, 6, run=folder, resume=True)
    assert "back" not in caught.value.do  # nobody has it any more
    # Other noise may: every reservation has its own.
    run(CENTRAL, 2, run=tmp_path / "other")
    assert len(run(CENTRAL, 4, run=tmp_path / "other", resume=True).records) == 4


# -- over the budget ------------------------------------------------------------------------------------------


def epsilon_of(rounds: int) -> float:
    return Accountant(AtMost(), DELTA).spent({RELEASE: rounds}).epsilon


SHORT = plan(fr.gaussian_noise(1.5), budget=fr.Budget(epsilon_of(3) + 0.01, DELTA))


def test_a_run_stops_before_the_round_that_would_spend_too_much(tmp_path, monkeypatch):
    found = Releases(monkeypatch)
    made = run(SHORT, rounds=6, run=tmp_path / "run", checkpoint_every=1)
    assert made.header["status"] == "stopped"
    assert made.header["stopped_by"] == "budget"
    assert len(made.records) == len(found.numbers) == 3
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
    assert [record.epsilon for record in made.records] == sorted(r.epsilon for r in made.records)


@pytest.mark.slow
def test_killed_again_and_again_a_run_never_spends_more_than_it_may(tmp_path):
    """SIGKILL at every point of a round: what was reserved counts, and the budget ends the run, not the kills."""
    folder = tmp_path / "run"
    places = ["reserved", "computed", "released", "told"]
    command = [sys.executable, "-m", "tests.simulation.private_killed", str(folder)]
    seen = 0
    for attempt, place in enumerate(places):
        more = ["resume"] if attempt else []
        done = subprocess.run(
            [*command, place, str(attempt + 2), *more], capture_output=True, text=True, check=False
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
        history = ledger(folder)
        assert len(history.reservations) > seen
        seen = len(history.reservations)
        tally = history.spent()
        spent = Accountant(AtMost(), DELTA).spent(tally.counts, tally.rounds).epsilon
        assert spent <= history.promise.epsilon
        assert counted(tally.counts) == seen  # crashed ones too
    done = subprocess.run([*command, "never", "0", "resume"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    history = ledger(folder)
    assert done.stdout.split()[-2:] == ["stopped", "budget"]
    counts = history.spent().counts
    assert Accountant(AtMost(), DELTA).spent(counts).epsilon <= history.promise.epsilon
    # Two kills cost a release, which nobody may have seen. Of the others the round was told already, or was made again
    # and found to be the same.
    digests = [one.digest for one in history.reservations.values() if one.digest]
    assert len(set(digests)) == len(digests)
    assert counted(counts) == 8
    assert len(digests) == 6
    made = [one.round for one in history.reservations.values() if one.digest]
    assert made == list(range(1, 7))


def test_the_ledger_names_the_plan_with_its_code(copy):
    with_code = CENTRAL.digest(CENTRAL.task.columns_of(people()))
    assert Ledger.read(copy / LEDGER).promise.plan == with_code != CENTRAL.digest()
