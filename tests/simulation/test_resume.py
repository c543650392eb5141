"""Killed at any moment, a run goes on to the same bits."""

import io
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time

import msgspec
import numpy as np
import pytest
import safetensors.numpy

import fairyring as fr
from tests.learning.linear import people
from tests.simulation.training import plan_of

pytestmark = pytest.mark.optimised

ROUNDS = 60


def start(folder, name, *more):
    command = [sys.executable, "-m", "tests.simulation.training", str(folder), name, str(ROUNDS), *more]
    return subprocess.Popen(command, stdout=subprocess.PIPE)


def result(folder):
    """What must agree: final state, metrics but for times, and what is known per client."""
    final = folder / "checkpoints" / f"round-{ROUNDS:06d}.safetensors"
    lines = [msgspec.json.decode(line) for line in (folder / "metrics.jsonl").read_bytes().splitlines()]
    for line in lines:
        del line["seconds"]
    clients = (folder / "clients.safetensors").read_bytes()
    states = folder / "clients" / "states.bin"
    table = states.read_bytes() if states.exists() else b""
    arrays = {name: array.tobytes() for name, array in safetensors.numpy.load_file(final).items()}
    return arrays, lines, clients, table


@pytest.mark.slow
@pytest.mark.parametrize(("name", "kills"), [("averaging", 1), ("scaffold", 3)])
def test_killed_at_random_moments(tmp_path, name, kills):
    whole = tmp_path / "whole"
    with start(whole, name) as process:
        process.communicate()
    assert process.returncode == 0
    expected = result(whole)
    assert [line["round"] for line in expected[1]] == list(range(1, ROUNDS + 1))

    chance = random.Random(7)
    broken, more = tmp_path / "broken", []
    for _ in range(kills):
        with start(broken, name, *more) as process:
            for _ in range(chance.randrange(1, 12)):  # let some rounds pass, then strike anywhere
                process.stdout.readline()
            time.sleep(chance.random() * 0.02)
            process.kill()
        assert process.returncode == -signal.SIGKILL
        more = ["resume"]
    with start(broken, name, *more) as process:
        process.communicate()
    assert process.returncode == 0
    assert result(broken) == expected


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A run that stopped after 6 of 9 rounds, and one that was never interrupted."""
    folder = tmp_path_factory.mktemp("runs")
    options = {"checkpoint_every": 3, "seed": 11, "dropout": 0.2}
    population = people([7, 12, 4, 9, 31, 2, 5, 8])
    fr.simulate(plan_of("scaffold"), population, rounds=6, run=folder / "short", **options)
    whole = fr.simulate(plan_of("scaffold"), population, rounds=9, run=folder / "whole", **options)
    return folder, whole, population, options


def copy_of(stopped, tmp_path):
    folder, _, population, options = stopped
    shutil.copytree(folder / "short", tmp_path / "run")
    return tmp_path / "run", population, options


def test_going_on_gives_the_same_bits(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    resumed = fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    np.testing.assert_array_equal(resumed.params["w"], stopped[1].params["w"])
    np.testing.assert_array_equal(resumed.participation, stopped[1].participation)
    assert [r.round for r in resumed.records] == list(range(1, 10))


def test_a_crash_between_checkpoint_and_table(stopped, tmp_path):
    """The checkpoint is saved, its journal not yet moved: the rows are moved on resuming, twice changes nothing."""
    from fairyring.records.stored_states import StoredStates

    example = {"w": np.zeros((2,), np.float32)}
    before = StoredStates(4, example, tmp_path / "clients")
    before.begin(0)
    before.write(np.array([1, 3]), {"w": np.array([[1, 2], [3, 4]], np.float32)})
    before.flush()
    facts = before.facts
    after = StoredStates(4, example, tmp_path / "clients")
    after.recover(facts, 5)
    np.testing.assert_array_equal(after.read(np.array([3, 0, 1]), 4)["w"], [[3, 4], [0, 0], [1, 2], [0, 0]])
    # Rounds after that checkpoint, lost in a crash, leave no trace.
    after.write(np.array([1]), {"w": np.array([[9, 9]], np.float32)})
    np.testing.assert_array_equal(after.read(np.array([1]), 1)["w"], [[9, 9]])
    after.flush()
    again = StoredStates(4, example, tmp_path / "clients")
    again.recover(facts, 5)
    np.testing.assert_array_equal(again.read(np.array([1]), 1)["w"], [[1, 2]])


def test_another_plan_is_refused(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    with pytest.raises(fr.RunMismatch, match="another plan"):
        fr.simulate(plan_of("averaging"), population, rounds=9, run=run, resume=True, **options)


def test_another_learning_rate_population_or_seed_is_refused(stopped, tmp_path):
    import dataclasses

    import optax

    run, population, options = copy_of(stopped, tmp_path)
    plan = plan_of("scaffold")
    faster = dataclasses.replace(plan, local=dataclasses.replace(plan.local, optimizer=optax.sgd(0.21)))
    columns = plan.task.columns_of(population)
    assert plan.digest(columns) == plan_of.__wrapped__("scaffold").digest(columns)
    with pytest.raises(fr.RunMismatch, match="another plan"):
        fr.simulate(faster, population, rounds=9, run=run, resume=True, **options)
    with pytest.raises(fr.RunMismatch, match="another population"):
        fr.simulate(plan, people([7, 12, 4, 9, 31, 2, 5, 9]), rounds=9, run=run, resume=True, **options)
    with pytest.raises(fr.RunMismatch, match="another seed"):
        fr.simulate(plan, population, rounds=9, run=run, resume=True, **(options | {"seed": 12}))


def test_a_damaged_checkpoint_is_named_and_the_earlier_one_serves(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    last = run / "checkpoints" / "round-000006.safetensors"
    last.write_bytes(last.read_bytes()[:-7])
    with pytest.raises(fr.RunDamaged, match=r"round-000006.*round-000003"):
        fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)


def test_one_changed_number_of_a_checkpoint_is_noticed(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    last = run / "checkpoints" / "round-000006.safetensors"
    content = bytearray(last.read_bytes())
    content[-3] ^= 1  # of a number, not of the header
    last.write_bytes(content)
    with pytest.raises(fr.RunDamaged, match="numbers that are not those that were written"):
        fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)


def test_a_lost_record_is_noticed(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    lines = (run / "metrics.jsonl").read_bytes().splitlines(keepends=True)
    (run / "metrics.jsonl").write_bytes(b"".join(lines[:2] + lines[3:]))
    with pytest.raises(fr.RunDamaged, match="records of 5 rounds, and a checkpoint after round 6"):
        fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)


def test_another_test_population_is_refused(tmp_path):
    population, test, other = people([3, 4, 5, 6, 7]), people([5, 6], seed=1), people([5, 6], seed=2)
    options = {"run": tmp_path / "run", "rounds": 4}
    fr.simulate(plan_of("averaging"), population, test=test, run=tmp_path / "run", rounds=2)
    with pytest.raises(fr.RunMismatch, match="another test population"):
        fr.simulate(plan_of("averaging"), population, test=other, resume=True, **options)
    fr.simulate(plan_of("averaging"), population, resume=True, **options)  # it may stay away
    with pytest.raises(fr.RunMismatch, match="another test population"):
        fr.simulate(plan_of("averaging"), population, test=other, resume=True, **options | {"rounds": 6})
    resumed = fr.simulate(plan_of("averaging"), population, test=test, resume=True, **options | {"rounds": 6})
    assert [record.round for record in resumed.records] == [1, 2, 3, 4, 5, 6]


def test_a_disk_that_is_full_when_states_are_settled_ends_no_process(stopped, tmp_path, monkeypatch):
    """Written through mapped memory, a page without a place on the disk would be a bus error."""
    import errno

    run, population, options = copy_of(stopped, tmp_path)
    writes = []

    class Full(io.FileIO):
        def write(self, data):
            writes.append(len(data))
            raise OSError(errno.ENOSPC, "No space left on device")

    def opened(path, mode="r", *more, **options):
        return (
            Full(path, mode)
            if str(path).endswith("states.bin") and mode == "r+b"
            else open(path, mode, *more, **options)
        )

    monkeypatch.setattr("fairyring.records.stored_states.open", opened, raising=False)
    with pytest.raises(fr.StorageError, match=r"states\.bin.*No space left.*Free space"):
        fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    assert writes
    monkeypatch.undo()
    resumed = fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    np.testing.assert_array_equal(resumed.params["w"], stopped[1].params["w"])


def test_a_half_written_metrics_line_is_run_again(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    with open(run / "metrics.jsonl", "ab") as file:
        file.write(b'{"round": 7, "loss": 0.')
    resumed = fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    assert [r.round for r in resumed.records] == list(range(1, 10))
    np.testing.assert_array_equal(resumed.params["w"], stopped[1].params["w"])


def test_a_folder_that_is_no_run(tmp_path):
    population = people([3, 4, 5, 6, 7])
    with pytest.raises(fr.RunError, match="no such folder"):
        fr.simulate(plan_of("averaging"), population, rounds=2, run=tmp_path / "none", resume=True)
    (tmp_path / "half").mkdir()
    with pytest.raises(fr.RunDamaged, match=r"without run\.json"):
        fr.simulate(plan_of("averaging"), population, rounds=2, run=tmp_path / "half", resume=True)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.tex").write_text("years of work")
    with pytest.raises(fr.RunError, match="in use"):
        fr.simulate(plan_of("averaging"), population, rounds=2, run=tmp_path / "full")
    assert (tmp_path / "full" / "thesis.tex").read_text() == "years of work"


def test_a_full_disk_keeps_what_was_saved(tmp_path, monkeypatch):
    import errno

    population = people([3, 4, 5, 6, 7])
    fsync = os.fsync

    def full(descriptor):
        name = os.readlink(f"/proc/self/fd/{descriptor}")
        if "round-000004" in name:
            raise OSError(errno.ENOSPC, "No space left on device")
        return fsync(descriptor)

    monkeypatch.setattr(os, "fsync", full)
    options = {"run": tmp_path / "run", "checkpoint_every": 2, "rounds": 6}
    with pytest.raises(fr.StorageError, match=r"No space left.*Free space"):
        fr.simulate(plan_of("averaging"), population, **options)
    assert not list((tmp_path / "run").rglob("*.part"))
    monkeypatch.undo()
    resumed = fr.simulate(plan_of("averaging"), population, resume=True, **options)
    whole = fr.simulate(plan_of("averaging"), population, rounds=6)
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])


def test_a_run_saved_afterwards_can_be_resumed(tmp_path):
    population = people([3, 4, 5, 6, 7])
    first = fr.simulate(plan_of("averaging"), population, rounds=3, seed=2)
    first.save(tmp_path / "run")
    resumed = fr.simulate(
        plan_of("averaging"), population, rounds=5, seed=2, run=tmp_path / "run", resume=True
    )
    whole = fr.simulate(plan_of("averaging"), population, rounds=5, seed=2)
    np.testing.assert_array_equal(resumed.params["w"], whole.params["w"])
    with pytest.raises(fr.RunError, match="in use"):
        first.save(tmp_path / "run")


def test_states_of_clients_do_not_go_back_to_an_earlier_checkpoint(stopped, tmp_path):
    run, population, options = copy_of(stopped, tmp_path)
    for last, after in (("000006", 3), ("000003", 0)):
        (run / "checkpoints" / f"round-{last}.safetensors").unlink()
        with pytest.raises(fr.RunDamaged, match=f"after round 6; expected those after round {after}"):
            fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)


def test_a_crash_while_the_table_of_states_is_made(stopped, tmp_path):
    """Before the first round it is made anew; after a checkpoint its rows are missed."""
    run, population, options = copy_of(stopped, tmp_path)
    (run / "clients" / "states.bin").write_bytes(b"")
    with pytest.raises(fr.RunError, match="states of its clients are gone"):
        fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    for path in [*(run / "checkpoints").iterdir(), *(run / "clients").glob("journal-*")]:
        path.unlink()
    resumed = fr.simulate(plan_of("scaffold"), population, rounds=9, run=run, resume=True, **options)
    np.testing.assert_array_equal(resumed.params["w"], stopped[1].params["w"])


def with_task(**changes):
    import dataclasses

    plan = plan_of("averaging")
    return dataclasses.replace(plan, task=dataclasses.replace(plan.task, **changes))


@pytest.fixture(scope="module")
def averaged(tmp_path_factory):
    """A run whose plan others differ from in code alone: names, shapes, numbers and first parameters are the same."""
    folder = tmp_path_factory.mktemp("averaged") / "run"
    population = people([7, 4, 9, 5, 8, 6])
    return fr.simulate(plan_of("averaging"), population, rounds=2, run=folder, processors=1), population


def other_plans():
    import jax.numpy as jnp

    from fairyring.task import Metric
    from tests.learning import linear

    task = plan_of("averaging").task
    accuracy = task.metrics["accuracy"].measure

    def twice(outputs, batch):
        value, weight = task.loss(outputs, batch)
        return 2 * value, weight

    def errors(outputs, batch):
        value, weight = accuracy(outputs, batch)
        return 1 - value, weight

    tanh = fr.classification((linear.init, lambda params, x: jnp.tanh(linear.apply(params, x))))
    return {
        "apply": with_task(model=tanh.model),
        "loss": with_task(loss=twice),
        "metric accuracy": with_task(metrics={"accuracy": Metric(errors, 1.0)}),
    }


@pytest.mark.parametrize("part", ["apply", "loss", "metric accuracy"])
def test_code_that_alone_is_another_is_refused_and_named(averaged, part):
    run, population = averaged
    other = other_plans()[part]
    assert other.document() == run.plan.document()
    before = {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()}
    with pytest.raises(fr.RunMismatch, match=rf"another plan: \w{{12}}, of another {part}\b"):
        fr.simulate(other, population, rounds=3, run=run.folder, resume=True, processors=1)
    with pytest.raises(fr.RunMismatch, match="a plan"):
        fr.audit_run(run.folder, other, population, canaries=0, targets=0, shadows=8)
    assert {path: path.read_bytes() for path in run.folder.rglob("*") if path.is_file()} == before


def test_a_run_of_an_older_form_is_refused_with_the_reason(averaged, tmp_path):
    run, population = averaged
    folder = shutil.copytree(run.folder, tmp_path / "old")
    header = json.loads((folder / "run.json").read_text())
    del header["form"]
    for form, why in (({}, "form 1.*does not name"), ({"form": 2}, "form 2.*mix"), ({"form": 4}, "form 4")):
        (folder / "run.json").write_text(json.dumps(header | {"fairyring": "0.0.1"} | form))
        with pytest.raises(fr.RunMismatch, match=why):
            fr.simulate(run.plan, population, rounds=3, run=folder, resume=True, processors=1)
        with pytest.raises(fr.RunMismatch, match=r"written by fairyring 0\.0\.1"):
            fr.audit_run(folder, run.plan, population, canaries=0, targets=0, shadows=8)
        with pytest.raises(fr.RunMismatch, match=why):
            fr.write_report(folder)


def test_what_plan_json_says_is_what_run_json_names(averaged):
    from fairyring.learning.document import digest
    from fairyring.learning.document_reader import Described, Document, read

    run, population = averaged
    plan = json.loads((run.folder / "plan.json").read_text())
    header = json.loads((run.folder / "run.json").read_text())
    read(plan, Described)
    document = {name: plan[name] for name in Document.__struct_fields__}
    assert document == run.plan.document()
    assert digest(document, header["code"]) == header["fingerprints"]["plan"]
    assert header["fingerprints"]["plan"] == run.plan.digest(run.plan.task.columns_of(population))
    assert header["code"]["columns"]["x"] == {"shape": [5], "dtype": "float32"}
