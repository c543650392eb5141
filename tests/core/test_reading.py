"""Damaged JSON raises an error of ours, wherever a folder is read."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from fairyring import Population
from fairyring.audit import verify_run
from fairyring.cli._source import Source
from fairyring.core.errors import FairyringError, RunDamaged
from fairyring.core.reading import NotJson, read_json
from fairyring.core.tensors import read_tensors, tensors
from fairyring.ecology.zoo.exhibits import make_zoo
from fairyring.privacy._history import History
from fairyring.privacy._ledger_file import HeadFile
from fairyring.records.folder import RunFolder
from fairyring.report.run.reported_run import ReportedRun as Reported
from fairyring.report.study.data import Study
from tests.rounds.round_records import record_of

BROKEN = {
    "cut short": b'{"status": "end',
    "not UTF-8": b'{"status": "\xff\xfe"}',
    "not UTF-8 in a name": b'{"\xffstatus": 1}',
    "nested": b"[" * 200_000,
    "nested objects": b'{"status": ' * 200_000,
    "no object": b"5",
    "nothing": b"",
}
broken = pytest.mark.parametrize("content", BROKEN.values(), ids=BROKEN)


@broken
def test_whatever_is_wrong_is_one_error(content: bytes) -> None:
    with pytest.raises(NotJson):
        read_json(content, dict[str, str])


def test_what_is_right_is_read() -> None:
    assert read_json('{"é": [1, null]}'.encode()) == {"é": [1, None]}


def run_of(folder: Path, **files: bytes) -> Path:
    for name, content in {"run": b"{}", **files}.items():
        (folder / f"{name}.json").write_bytes(content)
    return folder


@broken
def test_a_run_whose_record_is_broken_is_refused_or_private(content: bytes, tmp_path: Path) -> None:
    opened = RunFolder.open(run_of(tmp_path, run=content))
    assert opened.private  # it is not known to promise nothing
    for reads in (lambda: opened.read("run.json"), lambda: verify_run(tmp_path)):
        with pytest.raises(RunDamaged, match=r"run\.json"):
            reads()


@broken
def test_a_broken_line_of_metrics_is_left_out(content: bytes, tmp_path: Path) -> None:
    opened = RunFolder.open(run_of(tmp_path))
    first, last = record_of(1).line(), record_of(2).line()
    (tmp_path / "metrics.jsonl").write_bytes(b"\n".join([first, content, b'{"round": "x"}', last]))
    assert [record.round for record in opened.records()] == [1, 2]


@pytest.mark.parametrize("content", ["{", "[" * 200_000, "5", "{}", '{"round": "x"}'])
def test_a_checkpoint_whose_facts_are_broken_is_refused(content: str, tmp_path: Path) -> None:
    import safetensors.numpy

    opened = RunFolder.open(run_of(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    path = tmp_path / "checkpoints" / "round-000001.safetensors"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}, {"fairyring": content}))
    with pytest.raises(RunDamaged):
        opened.last_checkpoint("f")


def test_arrays_whose_facts_are_nested_too_deeply_are_refused(tmp_path: Path) -> None:
    import safetensors.numpy

    path = tmp_path / "world.eco"
    path.write_bytes(safetensors.numpy.save({"x": np.zeros(1)}, {"fairyring": "[" * 200_000}))
    with pytest.raises(RunDamaged):
        read_tensors(path, expected="a world", do="Make one.")
    path.write_bytes(tensors({"x": np.zeros(1)}, {"a": 1}))
    assert read_tensors(path, expected="a world", do="Make one.")[0] == {"a": 1}


READERS: dict[str, tuple[str, Callable[[Path], object]]] = {
    "source": ("source.json", Source.read),
    "study": ("study.json", Study.read),
    "exhibits": ("study.json", lambda folder: make_zoo(folder, folder / "out")),
    "population": ("population.json", Population.open),
    "head": (
        "ledger.head",
        lambda folder: HeadFile(folder / "ledger.head", History("l"), durable=False).read(),
    ),
}


@broken
@pytest.mark.parametrize("reader", READERS)
def test_every_reader_refuses_it_in_words(reader: str, content: bytes, tmp_path: Path) -> None:
    name, read = READERS[reader]
    (run_of(tmp_path) / name).write_bytes(content)
    with pytest.raises(FairyringError):
        read(tmp_path)


@broken
def test_a_report_leaves_out_what_is_broken_and_says_so(content: bytes, tmp_path: Path) -> None:
    run_of(tmp_path, run=b'{"status": "ended", "form": 3}', plan=content, population=b"{}")
    (tmp_path / "metrics.jsonl").write_bytes(record_of(1).line() + b"\n" + content + b'\n{"round": 1e999}\n')
    found = Reported.read(tmp_path)
    assert found.plan == {}
    assert len(found.rounds) == 1
    assert any("plan.json" in remark for remark in found.remarks)
    (tmp_path / "run.json").write_bytes(content)
    with pytest.raises(RunDamaged):
        Reported.read(tmp_path)
