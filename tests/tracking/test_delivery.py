"""A tracker gets every round once it works, and whatever it does the run is as it would be without it."""

import threading
import time
import warnings
from collections.abc import Sequence

import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import TrackerWarning
from fairyring.tracking import Delivery, Numbers, TrackedRun, delivery, trackers_from
from tests.rounds.round_records import record_of
from tests.simulation.training import people, plan_of

RUN = TrackedRun("digits", "0123456789abcdef" * 2, {"seed": 0})


class Kept:
    """A tracker that keeps what it is sent, after failing as often as it is told to.

    Args:
        failures: of `open`, then of `log`, in this order: how many calls fail before the first that works.
    """

    name = "kept"

    def __init__(self, *failures: int) -> None:
        self.open_fails, self.log_fails = (*failures, 0, 0)[:2]
        self.runs: list[TrackedRun] = []
        self.rounds: list[Numbers] = []
        self.ends: list[bool] = []
        self.threads: set[str] = set()

    def open(self, run: TrackedRun) -> "Kept":
        self.open_fails -= 1
        if self.open_fails >= 0:
            raise ConnectionError("no route to http://ann:secret@tracking.example.org/api")
        self.runs.append(run)
        return self

    def log(self, rounds: Sequence[Numbers]) -> None:
        self.threads.add(threading.current_thread().name)
        self.log_fails -= 1
        if self.log_fails >= 0:
            raise TimeoutError("slow")
        self.rounds += rounds

    def close(self, finished: bool) -> None:
        self.ends.append(finished)


class Hangs(Kept):
    """A tracker that never answers."""

    def log(self, rounds: Sequence[Numbers]) -> None:
        threading.Event().wait()


def send(tracker: Kept, rounds: int, *, patience: float, pause: float = 0.0) -> tuple[bool, float]:
    """Send so many records; whether all were taken, and how many seconds the run was kept from its work."""
    began = time.monotonic()
    with Delivery(tracker, RUN, patience=patience) as sent:
        for round in range(1, rounds + 1):
            sent(record_of(round, loss=1 / round))
            time.sleep(pause)
        kept = time.monotonic() - began
    return sent.complete, kept


def send_and_fail(tracker: Kept, error: type[BaseException]) -> None:
    """A run that ends in an error after its first round."""
    with Delivery(tracker, RUN) as sent:
        sent(record_of())
        raise error


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """No waiting for the next try."""
    monkeypatch.setattr(delivery, "PAUSE", 0.01)
    monkeypatch.setattr(delivery, "LONGEST_PAUSE", 0.02)
    monkeypatch.setattr(delivery, "HASTE", 0.2)


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("failures", [(0, 0), (3, 0), (0, 3), (2, 2)])
def test_every_round_arrives_once_and_in_order(failures: tuple[int, int]) -> None:
    tracker = Kept(*failures)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", TrackerWarning)
        complete, _ = send(tracker, 199, patience=10)
    assert complete
    assert [numbers.round for numbers in tracker.rounds] == [*range(1, 200)]
    assert [numbers.values["loss"] for numbers in tracker.rounds] == [1 / r for r in range(1, 200)]
    assert tracker.runs == [RUN]
    assert tracker.ends == [True]
    assert tracker.threads == {"tracker kept"}


@pytest.mark.usefixtures("hasty")
def test_a_failing_tracker_is_named_once_while_the_run_goes_on_and_at_its_end_without_secrets() -> None:
    tracker = Kept(1 << 30)
    with pytest.warns(TrackerWarning) as caught:
        complete, _ = send(tracker, 29, patience=0.1, pause=0.005)
    first, last = (str(one.message) for one in caught)
    assert (
        "tracker kept does not take the run's numbers (ConnectionError: no route to http://…@tracking"
        in first
    )
    assert "did not take the last 29 of 29 rounds: ConnectionError" in last
    assert "fairyring track" in last
    assert "secret" not in first + last
    assert not complete


@pytest.mark.usefixtures("hasty")
def test_a_tracker_that_hangs_neither_slows_a_run_nor_keeps_it_from_its_end() -> None:
    began = time.monotonic()
    with pytest.warns(TrackerWarning, match="last 1000 of 1000 rounds, and did not answer in time"):
        _, kept = send(Hangs(), 1000, patience=0.2)
    assert kept < 0.2
    assert time.monotonic() - began < 2


@pytest.mark.usefixtures("hasty")
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_a_run_that_fails_or_is_interrupted_is_not_called_finished(error: type[BaseException]) -> None:
    tracker = Kept()
    with pytest.raises(error):
        send_and_fail(tracker, error)
    assert tracker.ends == [False]
    assert [numbers.round for numbers in tracker.rounds] == [1]


@pytest.mark.usefixtures("hasty")
def test_ctrl_c_while_a_tracker_is_waited_for_ends_only_the_wait(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(threading.Thread, "join", interrupted)
    with pytest.warns(TrackerWarning, match="last 3 of 3 rounds, when it was no longer waited for"):
        complete, _ = send(Hangs(), 3, patience=60)
    assert not complete


@pytest.mark.parametrize(
    "address",
    [
        "http://user:p@ss@host/x",
        "postgresql://u:pass/ss@host/db",
        "https://host/x?token=pass&y=1",
        "{'api_key': 'pass'}",
        "Authorization: pass",
        "password=pass",
    ],
)
def test_no_secret_of_an_address_is_repeated(address: str) -> None:
    words = delivery._words(ConnectionError(f"cannot reach {address}"))
    assert "pass" not in words.replace("password", "")
    assert "ss@" not in words


@pytest.mark.parametrize("given", ["", "csv:", "comet:x", 5, "CSV:x", ["csv:a", None]])
def test_what_is_no_tracker_is_refused_before_anything_runs(given: object) -> None:
    with pytest.raises(fr.PlanError, match="csv:FOLDER, tensorboard:FOLDER, mlflow:URI, wandb:PROJECT"):
        trackers_from(given)  # type: ignore[arg-type]


def test_a_run_is_the_same_with_a_tracker_and_goes_on_as_one_run_of_it(tmp_path) -> None:
    arguments = {"population": people([7, 12, 4, 9, 31, 2, 5, 8]), "test": people([5, 6], seed=9), "seed": 11}
    plan, tracker = plan_of("averaging"), Kept()
    without = fr.simulate(plan, **arguments, rounds=6)
    first = fr.simulate(plan, **arguments, rounds=4, run=tmp_path / "first", track=tracker)
    resumed = fr.simulate(plan, **arguments, rounds=6, run=tmp_path / "first", resume=True, track=[tracker])
    for one, other in zip(without.params.values(), resumed.params.values(), strict=True):
        np.testing.assert_array_equal(one, other)
    assert [n.round for n in tracker.rounds] == [1, 2, 3, 4, 5, 6]
    table = resumed.table()
    for name in ("loss", "clients", "test.loss"):
        values = [numbers.values.get(name, np.nan) for numbers in tracker.rounds[4:]]
        np.testing.assert_array_equal(values, table[name][4:])
    begun, later = tracker.runs
    assert (begun.name, begun.after, later.after) == ("first", 0, 4)
    assert begun.identity == later.identity
    assert begun.settings["local.optimizer.sgd.learning_rate"] == 0.2
    assert begun.settings["seed"] == 11
    assert tracker.ends == [True, True]

    again = Kept()
    assert fr.tracking.deliver(first, again)
    assert again.rounds == tracker.rounds[:4]
    assert fr.tracking.deliver(fr.load_run(tmp_path / "first"), again)
    assert again.runs[1].identity == begun.identity
    assert again.rounds[4:] == tracker.rounds


def test_the_runs_of_a_sweep_are_called_by_setting_and_seed() -> None:
    tracker = Kept()
    fr.sweep(
        plan_of("averaging"),
        {"local.optimizer.learning_rate": [0.1, 0.2]},
        people([7, 12, 4, 9, 31, 2, 5, 8]),
        test=people([5, 6, 5, 6], seed=9),
        rounds=2,
        seeds=2,
        track=tracker,
    )
    names = sorted(run.name for run in tracker.runs)
    assert names == [f"learning_rate={rate},seed={seed}" for rate in (0.1, 0.2) for seed in (0, 1)]
    assert len({run.identity for run in tracker.runs}) == 4
    assert len(tracker.rounds) == 8
