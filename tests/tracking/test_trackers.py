"""What each tracker keeps, read back by the software it is for."""

import csv
import json
import math
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import fairyring as fr
from fairyring.core.errors import MissingExtra, StorageError
from fairyring.tracking import (
    CsvTracker,
    MlflowTracker,
    Numbers,
    TensorBoardTracker,
    TrackedRun,
    WandbTracker,
)

SETTINGS = {"local.optimizer": "sgd", "local.optimizer.sgd.learning_rate": 0.1, "seed": 3}
RUN = TrackedRun("a run/1", "0123456789abcdef" * 2, SETTINGS)
RESUMED = TrackedRun(RUN.name, RUN.identity, SETTINGS, after=2)
ROUNDS = [
    Numbers(1, {"loss": 2.5, "clients": 10.0}),
    Numbers(2, {"loss": math.nan, "clients": 0.0, "test.metrics.accuracy": 0.25}),
    Numbers(3, {"loss": 1.25, "clients": 10.0}),
]


def run(tracker: fr.tracking.Tracker) -> None:
    """Three rounds; then the run is taken up after round 2, and ends."""
    session = tracker.open(RUN)
    session.log(ROUNDS[:1])
    session.log(ROUNDS[1:])
    session.close(False)
    session = tracker.open(RESUMED)
    session.log([Numbers(3, {"loss": 1.25, "clients": 10.0}), Numbers(4, {"loss": 0.5, "clients": 9.0})])
    session.close(True)


def logged(content: bytes) -> Iterator[bytes]:
    """The records of a log of LevelDB's form, as wandb writes it: a head of 7 bytes, then blocks of 32 KiB with parts of records."""
    place, record = 7, b""
    while place + 7 <= len(content):
        if 32768 - place % 32768 < 7:  # no room for another head: the block is filled up
            place += 32768 - place % 32768
            continue
        length, kind = int.from_bytes(content[place + 4 : place + 6], "little"), content[place + 6]
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            yield record
            record = b""


def wait_until(condition: Callable[[], bool]) -> None:
    """Wait until something is true, at most a minute."""
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_csv(tmp_path: Path) -> None:
    run(CsvTracker(tmp_path / "new"))
    (path,) = (tmp_path / "new").iterdir()
    assert path.name == "a-run-1-01234567.csv"
    with path.open(newline="") as file:
        assert [*csv.reader(file)] == [
            ["round", "loss", "clients", "test.metrics.accuracy"],
            ["1", "2.5", "10", ""],
            ["2", "nan", "0", "0.25"],
            ["3", "1.25", "10", ""],
            ["4", "0.5", "9", ""],
        ]


def test_a_row_that_was_cut_is_written_again(tmp_path: Path) -> None:
    session = CsvTracker(tmp_path).open(RUN)
    session.log(ROUNDS[:1])
    (path,) = tmp_path.iterdir()
    whole = path.read_bytes()
    path.write_bytes(whole + b"2,0.3")  # as a full disk leaves it
    session.log([Numbers(2, {"loss": 0.5, "clients": 1.0})])
    assert path.read_bytes() == whole + b"2,0.5,1\n"
    path.write_bytes(path.read_bytes()[:-3])  # or a crash, before the run goes on
    session = CsvTracker(tmp_path).open(TrackedRun(RUN.name, RUN.identity, {}, after=1))
    session.log([Numbers(2, {"loss": 0.5, "clients": 1.0})])
    assert path.read_bytes() == whole + b"2,0.5,1\n"


def test_a_folder_that_cannot_be_made_is_an_error_of_storage(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(StorageError, match="file"):
        CsvTracker(tmp_path / "file" / "folder").open(RUN)


def test_tensorboard(tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(TensorBoardTracker(tmp_path))
    events = EventAccumulator(str(tmp_path / "a-run-1-01234567"))
    events.Reload()
    losses = {one.step: one.value for one in events.Scalars("loss")}
    assert losses == {1: 2.5, 3: 1.25, 4: 0.5}
    assert len(events.Scalars("loss")) == 3
    assert [(one.step, one.value) for one in events.Scalars("test/metrics/accuracy")] == [(2, 0.25)]
    text = events.Tensors("plan/text_summary")[0].tensor_proto.string_val[0].decode()
    assert "| local.optimizer.sgd.learning_rate | 0.1 |" in text


@pytest.mark.filterwarnings("ignore:The ``noload`` loader strategy")
def test_mlflow(tmp_path: Path) -> None:
    from mlflow import MlflowClient

    uri = f"sqlite:///{tmp_path}/mlflow.db"
    run(MlflowTracker(uri, experiment="digits"))
    client = MlflowClient(tracking_uri=uri)
    experiment = client.get_experiment_by_name("digits")
    (found,) = client.search_runs([experiment.experiment_id])
    assert (found.info.run_name, found.info.status) == ("a run/1", "FINISHED")
    assert found.data.params == {name: str(value) for name, value in SETTINGS.items()}
    losses = {one.step: one.value for one in client.get_metric_history(found.info.run_id, "loss")}
    assert math.isnan(losses.pop(2))
    assert losses == {1: 2.5, 3: 1.25, 4: 0.5}
    assert found.data.metrics["test.metrics.accuracy"] == 0.25


def test_wandb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from wandb.proto import wandb_internal_pb2

    monkeypatch.setenv("WANDB_DIR", str(tmp_path))
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    session = WandbTracker("digits", offline=True, folder=tmp_path).open(RUN)
    session.log(ROUNDS)
    session.close(True)
    (path,) = tmp_path.glob("wandb/offline-run-*/*.wandb")
    assert path.stem == f"run-{RUN.identity}"
    # A process of wandb's own writes the file, and may end a moment after the run has.
    wait_until(
        lambda: any(b"all finished" in log.read_bytes() for log in tmp_path.rglob("debug-internal.log"))
    )
    rows, config, name = {}, {}, ""
    for data in logged(path.read_bytes()):
        record = wandb_internal_pb2.Record()
        record.ParseFromString(data)
        if record.WhichOneof("record_type") == "run":
            name = record.run.display_name
            config |= {one.key: json.loads(one.value_json) for one in record.run.config.update}
        elif record.WhichOneof("record_type") == "history":
            row = {
                one.nested_key[0] if one.nested_key else one.key: one.value_json
                for one in record.history.item
            }
            rows[json.loads(row["_step"])] = {k: json.loads(v) for k, v in row.items() if k[0] != "_"}
    assert name == RUN.name
    assert {key: value for key, value in config.items() if key != "_wandb"} == SETTINGS
    assert rows[1] == ROUNDS[0].values
    assert rows[2]["test.metrics.accuracy"] == 0.25
    assert b"k" * 40 not in path.read_bytes()


@pytest.mark.parametrize(
    ("words", "package", "extra"),
    [
        ("tensorboard:x", "tensorboardX", "tensorboard"),
        ("mlflow", "mlflow", "mlflow"),
        ("wandb", "wandb", "wandb"),
    ],
)
def test_a_missing_package_is_said_with_its_extra(
    words: str, package: str, extra: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fairyring.core.extras.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=rf"no package '{package}'.*fairyring\[{extra}\]"):
        fr.tracking.trackers_from(words)


def test_no_tracker_is_imported_before_it_is_used() -> None:
    packages = "tensorboardX", "mlflow", "wandb"
    code = (
        "import sys, fairyring as fr; fr.simulate; "
        "[fr.tracking.trackers_from(t) for t in ('csv', 'mlflow', 'wandb', 'tensorboard')]; "
        f"print([p for p in {packages} if p in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
