"""The records of rounds: what is in them, how they are written and read, and when."""

import io
import signal
import subprocess
import sys
from dataclasses import replace

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import optax
import pytest
import safetensors.numpy
from rich.console import Console

import fairyring as fr
from fairyring.cli._terminal import summarise
from fairyring.core.errors import BudgetSpent, RunDamaged, RunError
from fairyring.core.keys import root
from fairyring.core.reading import NotJson
from fairyring.lowering import hardware
from fairyring.records import RoundRecord
from fairyring.records.folder import RunFolder
from fairyring.records.round_record import Aborted, LostInNoise, Means, read_record, table
from fairyring.report import units
from fairyring.rounds.artefacts import ARTEFACTS
from fairyring.rounds.cohorts import RoundCohort
from fairyring.rounds.coordinator import Coordinator
from fairyring.rounds.header import new_header
from fairyring.rounds.history import head_of_round
from fairyring.rounds.means import training_means
from fairyring.rounds.privacy_context import PrivacyContext
from fairyring.rounds.server_program import ServerProgram
from fairyring.rounds.settings import RunDescription, RunSettings
from fairyring.rounds.spending import RoundNoise, RunSpending
from fairyring.rounds.timetable import Timetable
from fairyring.rounds.total import Total
from tests.learning.linear import people, task
from tests.rounds.round_records import COUNTS, record_of
from tests.simulation import private_runs


def constant(value: float):
    return lambda outputs, batch: (jnp.full(outputs.shape[0], value), jnp.ones(outputs.shape[0]))


ones = constant(1.0)


def plan(name: str) -> fr.Plan:
    named = replace(task(), metrics={name: fr.Metric(ones, 1.0)})
    return fr.Plan(named, fr.LocalTraining(optax.sgd(0.1)), cohort=2)


NAMES = sorted({*RoundRecord.__struct_fields__, "participation", "stage", "reason", "weight", "a.b", "*"})


def test_a_metric_may_have_any_name_and_nothing_is_lost(tmp_path):
    """Also that of every field of a record: in the run, in its folder, resumed, as a table, in a report and in a terminal."""
    metrics = {name: fr.Metric(constant(i + 1.5), 100.0) for i, name in enumerate(NAMES)}
    given = replace(plan("mine"), task=replace(task(), metrics=metrics))
    options = {"test": people([2, 2]), "evaluate_every": 1, "stop": fr.EarlyStopping("clients", patience=9)}
    folder, expected = tmp_path / "run", {name: i + 1.5 for i, name in enumerate(NAMES)}
    fr.simulate(given, people([4, 4]), rounds=1, run=folder, **options)
    run = fr.simulate(given, people([4, 4]), rounds=2, run=folder, resume=True, **options)
    for records in (run.records, RunFolder.open(folder).records()):
        for number, record in enumerate(records, start=1):
            assert (record.round, record.clients, record.examples) == (number, 2, 8)
            assert record.metrics == record.test.metrics == expected
            assert record.loss not in expected.values()
    columns = run.table()
    for name, value in expected.items():
        assert columns[f"metrics.{name}"].tolist() == columns[f"test.metrics.{name}"].tolist() == [value] * 2
    assert columns["clients"].tolist() == [2, 2]
    assert columns["loss"].tolist() == [record.loss for record in run.records]
    clients = safetensors.numpy.load_file(folder / "clients.safetensors")
    assert clients["test.examples"].tolist() == [2, 2]
    assert clients["participation"].tolist() == [2, 2]
    for name, value in expected.items():
        assert clients[f"test.metrics.{name}"].tolist() == [value] * 2
    page = fr.write_report(folder).read_text("utf-8")
    console = Console(file=io.StringIO(), width=4000)
    summarise(console, run.records, run.header, folder, None)
    shown = console.file.getvalue()
    for name, value in expected.items():
        label = name.replace("_", " ")
        assert f"<th>{label}</th>" in page
        assert f"<th>held-out {label}</th>" in page
        assert f"{label} {units.metric(name, value)}" in shown


def test_a_metric_has_its_own_range_though_an_algorithm_sends_something_of_that_name():
    private = private_runs.plan(fr.gaussian_noise(1.5), algorithm=fr.adaptive_clip(0.5))
    named = replace(private, task=replace(private.task, metrics={"within_clip": fr.Metric(ones, 5.0)}))
    spending = RunSpending(named, None)
    found = training_means(named, np.array([10.0, 1.0, 3.0]), 10, 10, spending, released=True)
    spending.close(finished=True)
    assert found.means.metrics == {"within_clip": 3.0}


# -- a line of metrics.jsonl ------------------------------------------------------------------------------------

FULL = record_of(
    3,
    metrics={"accuracy": 0.5, "clients": 2.0},
    aborted=Aborted("masking", "few"),
    canaries=4,
    noise_std=Means(0.1, {"accuracy": 0.2}),
    lost_in_noise=LostInNoise(False, {"accuracy": True}),
    at_bound="loss, accuracy",
    clipped=0.9,
    update_norm=3.0,
    snr=0.5,
    noise=0.01,
    epsilon=3.0,
    empirical_epsilon=1.0,
    empirical_epsilon_lower=0.5,
    test=Means(0.7, {"accuracy": 0.25}),
    tests={"here": Means(0.7, {"accuracy": 0.25}), "there": Means(0.6, {"accuracy": 0.5})},
)


def test_a_record_is_read_as_it_was_written():
    assert FULL.columns().keys() >= set(RoundRecord.__struct_fields__) - {
        "metrics", "aborted", "noise_std", "lost_in_noise", "test", "tests"
    }  # fmt: skip
    for record in (FULL, record_of(1)):
        assert read_record(record.line()) == record
    assert b"null" not in record_of(1).line()
    assert b"test" not in record_of(1).line()


def test_what_is_not_finite_is_null_in_the_file_and_nan_again():
    nan = float("nan")
    record = record_of(
        1,
        loss=nan,
        metrics={"a": nan, "b": 1.0},
        test=Means(nan, {"a": nan, "b": 2.0}),
        tests={"x": Means(nan, {"a": nan})},
    )
    assert b'"loss":null' in record.line()
    back = read_record(record.line())
    np.testing.assert_equal(back.columns(), record.columns())
    assert back.line() == record.line()


@pytest.mark.parametrize(
    "line",
    [
        b"{}",
        b'{"round": 1}',
        record_of(1).line().replace(b'"clients":10', b'"clients":-1'),
        record_of(1).line().replace(b'"clients":10', b'"clients":10.5'),
        record_of(1).line().replace(b'"clients":10', b'"clients":null'),
        record_of(1).line().replace(b'"round":1', b'"round":0'),
        record_of(1).line().replace(b'"round":1', b'"round":' + b"9" * 30),
        record_of(1).line().replace(b'"metrics":{}', b'"metrics":{"a":"1"}'),
        record_of(1).line().replace(b'"metrics":{}', b'"metrics":{},"accuracy":0.5'),
        record_of(1).line()[:-1],
    ],
)
def test_a_line_that_is_no_record_is_refused(line):
    with pytest.raises(NotJson):
        read_record(line)


def test_a_table_has_a_column_for_all_that_was_recorded():
    columns = table([record_of(1), FULL])
    assert {name: column.dtype.kind for name, column in columns.items()} == {
        **dict.fromkeys(("round", *COUNTS, "canaries"), "i"),
        **dict.fromkeys(("loss", "seconds", "snr", "noise", "epsilon", "empirical_epsilon"), "f"),
        **dict.fromkeys(("empirical_epsilon_lower", "metrics.accuracy", "metrics.clients"), "f"),
        **dict.fromkeys(
            ("noise_std.loss", "noise_std.metrics.accuracy", "test.loss", "test.metrics.accuracy"), "f"
        ),
        **dict.fromkeys(
            (f"tests.{n}.{c}" for n in ("here", "there") for c in ("loss", "metrics.accuracy")), "f"
        ),
        **dict.fromkeys(("lost_in_noise.loss", "lost_in_noise.metrics.accuracy"), "b"),
        **dict.fromkeys(("aborted.stage", "aborted.reason", "at_bound"), "U"),
        **dict.fromkeys(("clipped", "update_norm"), "f"),
    }
    assert next(iter(columns)) == "round"
    assert columns["aborted.stage"].tolist() == ["", "masking"]
    assert columns["lost_in_noise.metrics.accuracy"].tolist() == [False, True]
    np.testing.assert_equal(columns["test.loss"], [np.nan, 0.7])
    assert table([]) == {}


@pytest.mark.parametrize("last", ["checkpoints", "plan.json", "run.json.part"])
def test_a_run_that_was_killed_before_its_run_json_was_whole_is_begun_anew(last, tmp_path):
    """In a process of its own, which is killed there."""
    folder = tmp_path / "run"
    kill = """
import os, signal, sys
from pathlib import Path
from fairyring.core import files
from fairyring.records.folder import RunFolder

folder, last = Path(sys.argv[1]), sys.argv[2]
run = RunFolder.create(folder)
lock = run.hold()
replace = os.replace
def until(source, target):
    if last == "run.json.part" and Path(target).name == "run.json":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(source, target)
os.replace = until
for name in ("plan.json", "run.json") if last != "checkpoints" else ():
    run.write(name, {})
    if name == last:
        break
os.kill(os.getpid(), signal.SIGKILL)
"""
    done = subprocess.run([sys.executable, "-c", kill, str(folder), last], check=False)
    assert done.returncode == -signal.SIGKILL
    assert {"lock", last} <= {entry.name for entry in folder.iterdir()}
    with pytest.raises(RunDamaged, match="start it anew"):
        RunFolder.open(folder)
    new = RunFolder.create(folder)
    lock = new.hold()
    (folder / "mine.txt").touch()
    with pytest.raises(RunError, match="in use"):
        RunFolder.create(folder)
    (folder / "mine.txt").unlink()
    with pytest.raises(RunError, match="being written by"):
        RunFolder.create(folder)
    new.write("run.json", {})
    lock.release()
    with pytest.raises(RunError, match="in use"):  # a run is there now
        RunFolder.create(folder)
    assert (folder / "run.json").exists()


def test_cutting_records_keeps_the_bytes_of_the_others(tmp_path):
    folder = RunFolder.create(tmp_path / "run")
    folder.append_records([record_of(1, epsilon=float("inf")), record_of(2), record_of(3)])
    before = (folder.path / "metrics.jsonl").read_bytes().splitlines()
    folder.cut_records(2)
    assert (folder.path / "metrics.jsonl").read_bytes().splitlines() == before[:2]


def test_every_field_of_a_record_is_inside_or_outside_of_the_promise():
    """And nothing is named that is no field."""
    named = [
        (name.removeprefix("metrics.jsonl: "), one.inside)
        for one in ARTEFACTS
        for name in one.names
        if name.startswith("metrics.jsonl: ")
    ]
    kinds = msgspec.structs.fields(RoundRecord)
    nested = {
        one.name
        for one in kinds
        if one.name == "metrics" or not isinstance(getattr(FULL, one.name), int | float | str)
    }
    fields = sorted(f"{one.name}.*" if one.name in nested else one.name for one in kinds)
    assert sorted(name for name, _ in named) == fields
    assert {name for name, inside in named if inside} == {
        "loss", "metrics.*", "empirical_epsilon", "empirical_epsilon_lower"
    }  # fmt: skip


# -- rounds and their records -----------------------------------------------------------------------------------


def coordinated(folder, signers=None):
    """A coordinator of three rounds, for a caller that computes their totals."""
    given, clients, on = plan("mine"), people([3, 4]), hardware(1, processors=1)
    program = ServerProgram(given, 2, root(0), on.processors[0], on.options)
    columns = given.task.columns_of(clients)
    return Coordinator(
        program,
        given.first_state(jax.random.key(0)),
        clients,
        RunDescription(
            new_header(given, "", columns=columns, rounds=3, seed=0, started="", machine={}),
            PrivacyContext(given, 2, (3, 4)),
            {},
        ),
        RunSettings(Timetable(3, 1, checkpoint_every=1)),
        store=RunFolder.create(folder),
        signers=signers,
    )


everybody, nobody = np.arange(2), np.zeros(0, np.int64)


def full(*_):
    raise OSError("no space left on device")


class Unsigned:
    """Signers of whom none is left."""

    def attest(self, head):
        return ()


@pytest.mark.parametrize("place", ["half a line", "the history", "its signatures", "the checkpoint"])
def test_recording_a_round_again_after_it_failed_halfway_writes_it_once(place, tmp_path, monkeypatch):
    signers = Unsigned()
    with coordinated(tmp_path / "run", signers) as run:
        owner, name = {
            "half a line": (run.recorder.store, "append_records"),
            "the history": (run.recorder.history, "_sign"),
            "its signatures": (signers, "attest"),
            "the checkpoint": (run.recorder.store, "checkpoint"),
        }[place]

        def half(records):
            with open(tmp_path / "run" / "metrics.jsonl", "ab") as file:
                file.write(records[0].line()[:20])
            full()

        for number in (1, 2, 3):
            work = run.open(RoundCohort(number, everybody, everybody))
            assert work is not None
            run.accept(work, Total((run.program.sums(),), nobody))
            before = work.previous
            with monkeypatch.context() as patch:
                patch.setattr(owner, name, half if place == "half a line" else full)
                for _ in range(2):
                    with pytest.raises(OSError, match="no space"):
                        run.record()
            with pytest.raises(RunError, match="is not recorded"):
                run.open(RoundCohort(number + 1, everybody, everybody))
            assert run.record().round == number
            line = (tmp_path / "run" / "metrics.jsonl").read_bytes().splitlines()[-1]
            assert run.recorder.history.head == head_of_round(before, line, None, run.model())
            assert run.recorder.history.round == number
        run.end()
    kept = (tmp_path / "run" / "metrics.jsonl").read_bytes()
    assert kept == b"".join(record.line() + b"\n" for record in run.records)
    assert [record.round for record in RunFolder.open(tmp_path / "run").records()] == [1, 2, 3]


def test_no_round_is_opened_after_one_that_could_not_be_recorded(tmp_path, monkeypatch):
    with coordinated(tmp_path / "run") as run:
        work = run.open(RoundCohort(1, everybody, everybody))
        assert work is not None
        run.accept(work, Total((run.program.sums(),), nobody))
        with monkeypatch.context() as patch:
            patch.setattr(run.recorder, "add", full)
            with pytest.raises(OSError, match="no space"):
                run.record()
        with pytest.raises(RunError, match="is not recorded"):
            run.open(RoundCohort(2, everybody, everybody))
        run.record()
        assert run.open(RoundCohort(2, everybody, everybody)) is not None
    assert [record.round for record in run.records] == [1]


def test_early_stopping_goes_on_after_a_value_that_is_no_number(tmp_path):
    def lost(outputs, batch):
        return jnp.where(batch["x"][:, 0] > 100, jnp.nan, 0.5), jnp.ones(outputs.shape[0])

    far = {"x": np.full((3, 5), 1e3, np.float32), "y": np.zeros(3, np.int32)}
    test = fr.Population.from_arrays(far, client=np.zeros(3, int), clients=np.arange(1))
    given = replace(plan("mine"), task=replace(task(), metrics={"mine": fr.Metric(lost, 1.0)}))
    options = {"test": test, "evaluate_every": 1, "stop": fr.EarlyStopping("mine", patience=2)}
    fr.simulate(given, people([3, 4]), rounds=1, run=tmp_path / "run", **options)
    with pytest.warns(fr.TrainingWarning, match="mine was not a finite number in the last 2 evaluations"):
        resumed = fr.simulate(given, people([3, 4]), rounds=4, run=tmp_path / "run", resume=True, **options)
    assert resumed.rounds == 2
    assert "mine was not a finite number" in resumed.header["cautions"][0]
    assert resumed.header["status"] == "stopped"


@pytest.mark.parametrize("cut_off", [1, 2])
def test_a_round_that_would_spend_too_much_as_it_came_ends_the_run_unreleased(cut_off, monkeypatch):
    """What came is other than what was reserved, and the ledger withholds it."""
    real = RoundNoise.release

    def release(noise, *given, **more):
        if noise.round == cut_off:
            raise BudgetSpent("round", given="more", expected="less", do="Stop.")
        return real(noise, *given, **more)

    monkeypatch.setattr(RoundNoise, "release", release)
    given = private_runs.plan(fr.gaussian_noise(1.5), bits=None)
    if cut_off == 1:
        with pytest.raises(BudgetSpent):
            private_runs.run(given, 3)
        return
    run = private_runs.run(given, 3)
    assert (run.rounds, run.header["status"], run.header["stopped_by"]) == (1, "stopped", "budget")


def test_files_of_others_are_no_beginning_of_a_run(tmp_path):
    for name in ("plan.json", "model.msgpack"):
        (tmp_path / name).write_text("mine")
    with pytest.raises(RunError, match="in use"):
        RunFolder.create(tmp_path)
    assert (tmp_path / "model.msgpack").read_text() == "mine"
