"""A run folder that was changed anywhere is not believed, and one that was not is."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core import record
from fairyring.core.errors import FairyringError
from fairyring.secagg import Transcript
from fairyring.secagg.history import linked
from fairyring.simulation import history
from fairyring.simulation.draws import Draws, Leaving
from fairyring.simulation.history import SEAL, SIGNED, Seal, Signed, digests_of
from tests.learning.linear import people, task
from tests.simulation import private_runs
from tests.simulation.private_runs import compiled_once

SIZES = [7, 12, 4, 9, 31, 2, 5, 8]
ROUNDS = 5


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


def plan(clip: float = 0.5) -> fr.Plan:
    return fr.Plan(
        task(),
        local=fr.LocalTraining(optax.sgd(0.2), epochs=1, batch_size=4),
        cohort=6,
        aggregation=fr.chain(fr.clip(clip), fr.quantize(bits=12), fr.secure_sum(24)),
    )


PLAN = plan()


def run(folder: Path, rounds: int = ROUNDS, **options: Any) -> fr.Run:
    given = {"seed": 5, "secure_sum": "protocol", "dropout": 0.1, "devices": 1, "test": people([5])} | options
    return fr.simulate(PLAN, people(SIZES), rounds=rounds, run=folder, **given)


class Killed(BaseException):
    """What stops a run in the middle."""


def killed(folder: Path, after: int, **options: Any) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record["round"] == after:
            raise Killed

    with pytest.raises(Killed):
        run(folder, on_round=stop, **options)


def aborting(patch: pytest.MonkeyPatch, *rounds: int) -> None:
    """Have everybody vanish too late in some rounds."""
    real = Draws.leaving

    def leaving(self: Draws, draw: Any) -> Any:
        if draw.round in rounds:
            return dict.fromkeys(range(len(SIZES)), Leaving.BEFORE_UNMASKING)
        return real(self, draw)

    patch.setattr(Draws, "leaving", leaving)


@pytest.fixture(scope="module")
def kept(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Runs of which no test changes anything."""
    there = tmp_path_factory.mktemp("kept")
    run(there / "finished", checkpoint_every=1, evaluate_every=2)
    run(there / "other", checkpoint_every=1, evaluate_every=2)
    with pytest.MonkeyPatch.context() as patch:
        aborting(patch, 2, 5)
        run(there / "aborted", checkpoint_every=1)
    killed(there / "killed", 4, checkpoint_every=2)
    return {path.name: path for path in there.iterdir()}


@pytest.fixture
def copy(kept: dict[str, Path], tmp_path: Path) -> Callable[[str], Path]:
    return lambda name: Path(shutil.copytree(kept[name], tmp_path / name))


def transcript(folder: Path, number: int) -> Path:
    return folder / "secure_sum" / f"round-{number:06d}.msgpack"


def kept_sum(folder: Path, number: int) -> Path:
    return transcript(folder, number).with_suffix(".sum")


def checkpoint(folder: Path, number: int) -> Path:
    return folder / "checkpoints" / f"round-{number:06d}.safetensors"


def edit_json(folder: Path, name: str, change: Callable[[Any], Any]) -> None:
    path = folder / name
    value = msgspec.json.decode(path.read_bytes())
    change(value)
    path.write_bytes(msgspec.json.format(msgspec.json.encode(value), indent=2))


def edit_record(folder: Path, number: int, **fields: Any) -> None:
    path = folder / "metrics.jsonl"
    lines = [msgspec.json.decode(line) for line in path.read_bytes().splitlines()]
    lines[number - 1] |= fields
    path.write_bytes(b"".join(msgspec.json.encode(line) + b"\n" for line in lines))


def edit_lines(folder: Path, change: Callable[[list[bytes]], list[bytes]]) -> None:
    path = folder / "metrics.jsonl"
    path.write_bytes(b"".join(change(path.read_bytes().splitlines(keepends=True))))


def edit_transcript(folder: Path, number: int, **fields: Any) -> None:
    path = transcript(folder, number)
    given = msgspec.msgpack.decode(path.read_bytes(), type=Transcript)
    path.write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(given, **fields)))


def edit_arrays(path: Path, name: str) -> None:
    """Add one to the first number of an array, and leave all else as it is."""
    facts, arrays = record.read_tensors(path, expected="", do="")
    found = next(n for n in arrays if name in n)
    arrays[found] = arrays[found].copy()
    arrays[found].reshape(-1)[0] += 1
    path.write_bytes(record.tensors(arrays, facts))


# -- honest runs --------------------------------------------------------------------------------------------


def test_a_finished_run_is_verified_from_its_folder_alone(kept: dict[str, Path]) -> None:
    found = fr.verify_run(kept["finished"])
    assert (found.rounds, found.aborted, found.sums, found.models) == (5, (), (4, 5), (4, 5))
    assert found.ended
    assert found.whole
    assert found.signed == msgspec.json.decode((kept["finished"] / "metrics.jsonl").read_bytes().splitlines()[-1])["clients"]
    assert found.fewest >= 3
    assert "modulo 2^24" in found.says
    assert (found.unfinished, found.resumed, found.noted, found.unchecked) == (None, False, None, ())


def test_a_run_with_aborted_rounds(kept: dict[str, Path]) -> None:
    found = fr.verify_run(kept["aborted"])
    assert (found.rounds, found.aborted, found.sums, found.models) == (3, (2, 5), (4,), (4, 5))
    assert found.whole


def test_a_run_that_was_killed_is_believed_up_to_its_last_round_and_is_not_whole(
    kept: dict[str, Path],
) -> None:
    found = fr.verify_run(kept["killed"])
    assert (found.rounds, found.sums, found.models, found.ended) == (4, (3, 4), (2, 4), False)
    assert found.signed >= 3
    assert not found.whole
    assert found.unchecked == ("exhibit.safetensors",)


def test_a_run_that_was_killed_and_taken_up_again_and_once_more_for_more_rounds(copy: Callable[[str], Path]) -> None:
    folder = copy("killed")
    noted = [fr.verify_run(folder).head]
    for rounds in (ROUNDS, ROUNDS, 7):
        run(folder, rounds, resume=True, checkpoint_every=2)
        found = fr.verify_run(folder)
        assert (found.rounds, found.whole, found.resumed) == (rounds, True, False)
        noted.append(found.head)
    assert noted[1] == noted[2]  # nothing was left to run
    assert [fr.verify_run(folder, head=head).noted for head in noted] == [4, 5, 5, "the end"]
    parts = msgspec.json.decode((folder / "run.json").read_bytes())["history"]["parts"]
    assert [(part["after"], part["rounds"]) for part in parts] == [(0, 5), (4, 5), (5, 7)]


def test_a_run_that_stopped_early(tmp_path: Path) -> None:
    stop = fr.EarlyStopping(metric="loss", patience=1, minimum_change=10.0)
    done = run(tmp_path / "run", 9, stop=stop, evaluate_every=1)
    assert done.header["status"] == "stopped"
    assert fr.verify_run(tmp_path / "run").whole


def test_a_run_without_a_single_sum_has_nobody_to_sign_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborting(monkeypatch, 1, 2)
    run(tmp_path / "run", 2)
    found = fr.verify_run(tmp_path / "run")
    assert (found.rounds, found.aborted, found.signed) == (0, (1, 2), 0)
    assert found.ended
    assert not found.whole


def test_an_end_nobody_was_left_to_sign_is_believed_but_not_whole_until_it_is_known(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("killed")
    aborting(monkeypatch, 5)
    run(folder, resume=True)
    found = fr.verify_run(folder)
    assert (found.aborted, found.ended, found.signed, found.whole) == ((5,), True, 0, False)
    assert fr.verify_run(folder, head=found.head[:12]).whole


@pytest.mark.parametrize(
    ("noise", "sums"),
    [(fr.gaussian_noise(1.5), ()), (fr.distributed_noise("skellam", 1.5, shares=5), (1, 2))],
    ids=["the server's noise", "the devices'"],
)
def test_a_private_run_and_its_ledger(noise: Any, sums: tuple[int, ...], tmp_path: Path) -> None:
    bits = 24 if not sums else 22
    private_runs.run(private_runs.plan(noise, bits=bits, features=4), 2, people=None, **{}) if False else None
    given = private_runs.plan(noise, bits=bits, features=4)
    folder = tmp_path / "run"
    private_runs.run(
        given, 2, private_runs.people(features=4), run=folder, secure_sum="protocol", dropout=0.05
    )
    found = fr.verify_run(folder)
    assert (found.rounds, found.sums, found.ledger, found.whole) == (2, sums, True, True)
    other = tmp_path / "other"
    private_runs.run(given, 2, private_runs.people(features=4), run=other, entropy=None)
    shutil.copy(other / "ledger.sqlite", folder / "ledger.sqlite")
    with pytest.raises(FairyringError):
        fr.verify_run(folder)


class Crash:
    """Ends a run at its n-th write to the folder, before or after it."""

    def __init__(self, patch: pytest.MonkeyPatch, at: int) -> None:
        self.left = at
        for owner, name in ((record, "replace_file"), (record.RunFolder, "append_metrics")):
            patch.setattr(owner, name, partial(self._through, getattr(owner, name)))
        patch.setattr(record.RunFolder, "append_metrics", self._method(record.RunFolder.append_metrics))

    def _method(self, real: Any) -> Any:
        return lambda *args, **options: real(*args, **options)

    def _through(self, real: Any, *args: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise Killed
        return real(*args, **options)
