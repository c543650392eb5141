"""A run folder that was changed anywhere is not believed, and one that was not is."""

import shutil
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import msgspec
import optax
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fairyring as fr
from fairyring.core import files
from fairyring.core.errors import FairyringError
from fairyring.core.tensors import read_tensors, tensors
from fairyring.records import folder as run_folder
from fairyring.records.folder import RunFolder
from fairyring.records.layout import SEAL, SIGNED
from fairyring.rounds import history
from fairyring.rounds.cohorts import CohortSampler, DropoutPoint
from fairyring.rounds.history import Seal, Signed, digests_of
from fairyring.secagg import Transcript
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
    given = {
        "seed": 5,
        "secure_sum": "protocol",
        "dropout": 0.1,
        "processors": 1,
        "test": people([5]),
    } | options
    return fr.simulate(PLAN, people(SIZES), rounds=rounds, run=folder, **given)


class Killed(BaseException):
    """What stops a run in the middle."""


def killing(*_: object) -> None:
    raise Killed


def killed(folder: Path, after: int, **options: Any) -> None:
    def stop(record: dict[str, Any]) -> None:
        if record.round == after:
            raise Killed

    with pytest.raises(Killed):
        run(folder, on_round=stop, **options)


def aborting(patch: pytest.MonkeyPatch, *rounds: int) -> None:
    """Have everybody vanish too late in some rounds."""
    real = CohortSampler.dropout_points

    def dropout_points(self: CohortSampler, draw: Any) -> Any:
        if draw.round in rounds:
            return dict.fromkeys(range(len(SIZES)), DropoutPoint.BEFORE_UNMASKING)
        return real(self, draw)

    patch.setattr(CohortSampler, "dropout_points", dropout_points)


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
    facts, arrays = read_tensors(path, expected="", do="")
    found = next(n for n in arrays if name in n)
    arrays[found] = arrays[found].copy()
    arrays[found].reshape(-1)[0] += 1
    path.write_bytes(tensors(arrays, facts))


# -- honest runs --------------------------------------------------------------------------------------------


def test_a_finished_run_is_verified_from_its_folder_alone(kept: dict[str, Path]) -> None:
    found = fr.verify_run(kept["finished"])
    assert (found.rounds, found.aborted, found.sums, found.models) == (5, (), (4, 5), (4, 5))
    assert found.ended
    assert found.whole
    assert (
        found.signed
        == msgspec.json.decode((kept["finished"] / "metrics.jsonl").read_bytes().splitlines()[-1])["clients"]
    )
    assert found.smallest_cohort >= 3
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
    assert found.unchecked == ("exhibit.safetensors", "model.msgpack")


def test_a_run_that_was_killed_and_taken_up_again_and_once_more_for_more_rounds(
    copy: Callable[[str], Path],
) -> None:
    folder = copy("killed")
    noted = [fr.verify_run(folder).head]
    for rounds in (ROUNDS, ROUNDS, 7):
        run(folder, rounds, resume=True, checkpoint_every=2)
        found = fr.verify_run(folder)
        assert (found.rounds, found.whole, found.resumed) == (rounds, True, False)
        noted.append(found.head)
    assert noted[1] == noted[2]  # nothing was left to run
    assert [fr.verify_run(folder, head=head).noted for head in noted] == [4, 5, 5, "the end"]
    edit_json(folder, "run.json", lambda value: value["history"]["parts"][2].update(ended=noted[3]))
    with pytest.raises(fr.SecureSumError):
        fr.verify_run(folder)
    parts = msgspec.json.decode((folder / "run.json").read_bytes())["history"]["parts"]
    assert [(part["after"], part["rounds"]) for part in parts] == [(0, 5), (4, 5), (5, 7)]


def test_a_run_that_stopped_early(tmp_path: Path) -> None:
    stop = fr.EarlyStopping(metric="loss", patience=1, by=10.0)
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
    assert fr.verify_run(folder, head=found.head[:16]).whole


def test_a_run_taken_up_again_again_and_again_before_its_next_round_is_over(
    copy: Callable[[str], Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = copy("finished")
    ended = fr.verify_run(folder).head
    for _ in range(2):
        with monkeypatch.context() as patch:
            patch.setattr(RunFolder, "append_records", killing)
            with pytest.raises(Killed):
                run(folder, 7, resume=True)
        found = fr.verify_run(folder, head=ended)
        assert (found.rounds, found.ended, found.resumed, found.unfinished, found.noted) == (
            5,
            False,
            True,
            6,
            5,
        )
        assert found.signed >= 3
    run(folder, 7, resume=True)
    found = fr.verify_run(folder, head=ended)
    assert (found.rounds, found.whole, found.noted) == (7, True, 5)


def test_private_runs_and_their_ledgers(tmp_path: Path) -> None:
    folders = []
    for noise, bits, sums in (
        (fr.gaussian_noise(1.5), 24, ()),  # sums that lack the server's noise are not kept
        (fr.distributed_noise("skellam", 1.5, shares=5), 22, (1, 2)),
    ):
        given = private_runs.plan(noise, bits=bits, features=4)
        folders.append(tmp_path / f"{bits}")
        population = private_runs.people(features=4)
        private_runs.run(given, 2, population, run=folders[-1], secure_sum="protocol", dropout=0.05)
        found = fr.verify_run(folders[-1])
        assert (found.rounds, found.sums, found.ledger, found.whole) == (2, sums, True, True)
        assert not any(name.startswith("ledger") for name in found.unchecked)
    for name in ("ledger.sqlite", "ledger.head"):
        swap(*(folder / name for folder in folders))
    for folder in folders:
        with pytest.raises(fr.SecureSumError, match="another ledger"):
            fr.verify_run(folder)
    (folders[0] / "ledger.sqlite").unlink()
    with pytest.raises(FairyringError):
        fr.verify_run(folders[0])


class Writes:
    """Ends the process at one of its writes to the folder.

    Attributes:
        left: how many are still allowed, and one that is not; below zero, all.
    """

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.left = -1
        append = RunFolder.append_records
        patch.setattr(run_folder, "replace_file", partial(self._through, files.replace_file))
        patch.setattr(RunFolder, "append_records", lambda *given: self._through(append, *given))

    def _through(self, real: Any, *given: Any, **options: Any) -> Any:
        self.left -= 1
        if self.left == 0:
            raise Killed
        return real(*given, **options)


# Of 21: between transcript and sum, before a record, before two heads, before the end.
@pytest.mark.parametrize("at", [7, 9, 12, 17, 21])
def test_a_run_killed_at_any_write_is_never_taken_for_a_whole_one_and_ends_as_one(
    at: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    aborting(monkeypatch, 2)
    writes, folder = Writes(monkeypatch), tmp_path / "run"
    given: dict[str, Any] = {"rounds": 3, "checkpoint_every": 2, "evaluate_every": 3}
    writes.left = at
    with pytest.raises(Killed):
        run(folder, **given)
    writes.left, refused = -1, ""
    try:
        assert not fr.verify_run(folder).whole
    except fr.RunDamaged as error:
        refused = str(error)
    # Killed between run.json and what vouches for it, nothing does.
    assert ("as it ended, resume it" in refused) == (at > 19)
    run(folder, resume=True, **given)
    found = fr.verify_run(folder)
    assert (found.rounds, found.aborted, found.ended) == (2, (2,), True)
    assert found.whole == (at < 19)  # past that all rounds were over, and nobody was left to sign


# -- what was changed ---------------------------------------------------------------------------------------


def swap(a: Path, b: Path) -> None:
    first, second = a.read_bytes(), b.read_bytes()
    a.write_bytes(second)
    b.write_bytes(first)


def cut_off(folder: Path, rounds: int) -> None:
    """Make it a run that was stopped after some rounds, as far as that goes without a device's key."""
    edit_lines(folder, lambda lines: lines[:rounds])
    for path in (folder / "secure_sum").glob("round-*"):
        if int(path.stem.removeprefix("round-")) > rounds:
            path.unlink()
    for path in (folder / "checkpoints").iterdir():
        if int(path.stem.removeprefix("round-")) > rounds:
            path.unlink()
    edit_json(folder, "run.json", lambda value: value.update(status="stopped"))


def mark_aborted(folder: Path, number: int) -> None:
    edit_record(folder, number, aborted={"stage": "unmasking", "reason": "too few"}, clients=0)
    transcript(folder, number).unlink()
    kept_sum(folder, number).unlink(missing_ok=True)


def claim(folder: Path, **terms: Any) -> None:
    edit_json(folder, "plan.json", lambda value: value["secure_sum"].update(terms))


def other(folder: Path) -> Path:
    """The other run of the same plan, with other identities and another name."""
    return folder.parent / "other"


def as_of_other(folder: Path, *names: str) -> None:
    for name in names:
        shutil.copy(other(folder) / name, folder / name)


EDITS: dict[str, Callable[[Path], object]] = {
    "rounds cut off at the end": lambda f: cut_off(f, 3),
    "the last round cut off": lambda f: cut_off(f, 4),
    "metrics cut off": lambda f: edit_lines(f, lambda lines: lines[:3]),
    "no metrics": lambda f: (f / "metrics.jsonl").unlink(),
    "the first round aborted": lambda f: mark_aborted(f, 1),
    "a round aborted": lambda f: mark_aborted(f, 3),
    "the last round aborted": lambda f: mark_aborted(f, 5),
    "an accuracy": lambda f: edit_record(f, 2, test={"loss": 0.01, "metrics": {}}),
    "an accuracy in training": lambda f: edit_record(f, 3, loss=0.01),
    "the last accuracy": lambda f: edit_record(f, 5, loss=0.01),
    "a time": lambda f: edit_record(f, 2, seconds=0.0),
    "a word more in a record": lambda f: edit_record(f, 2, remark="fine"),
    "a record's number": lambda f: edit_record(f, 2, round=3),
    "a count": lambda f: edit_record(f, 1, clients=3),
    "two records in each other's place": lambda f: edit_lines(f, lambda a: [a[1], a[0], *a[2:]]),
    "a record twice": lambda f: edit_lines(f, lambda lines: [*lines, lines[-1]]),
    "a record more": lambda f: edit_lines(f, lambda a: [*a, a[-1].replace(b'"round":5', b'"round":6')]),
    "a transcript deleted": lambda f: transcript(f, 2).unlink(),
    "no transcript": lambda f: [p.unlink() for p in (f / "secure_sum").glob("*.msgpack")],
    "two transcripts in each other's place": lambda f: swap(transcript(f, 2), transcript(f, 3)),
    "a transcript's model": lambda f: edit_transcript(f, 2, model=bytes(32)),
    "a transcript's survivors": lambda f: edit_transcript(f, 4, survivors=b"\x07"),
    "a transcript's signatures": lambda f: edit_transcript(f, 3, signatures=()),
    "a transcript's result": lambda f: edit_transcript(f, 2, result=bytes(32)),
    "a transcript's count": lambda f: edit_transcript(f, 1, count=3),
    "a transcript's history": lambda f: edit_transcript(f, 3, previous=None),
    "a transcript of no form": lambda f: transcript(f, 2).write_bytes(b"\xff"),
    "a transcript of another run": lambda f: as_of_other(f, "secure_sum/round-000003.msgpack"),
    "all transcripts of another run": lambda f: as_of_other(
        f, *(f"secure_sum/round-{n:06d}.msgpack" for n in range(1, 6))
    ),
    "all of another run but its record": lambda f: [
        shutil.rmtree(f / "secure_sum"),
        shutil.copytree(other(f) / "secure_sum", f / "secure_sum"),
        as_of_other(f, "run.json"),
    ],
    "metrics of another run": lambda f: as_of_other(f, "metrics.jsonl"),
    "a sum": lambda f: kept_sum(f, 5).write_bytes(b"\1" * 54),
    "a sum deleted": lambda f: kept_sum(f, 4).unlink(),
    "the last sum deleted": lambda f: kept_sum(f, 5).unlink(),
    "sums in each other's place": lambda f: swap(kept_sum(f, 4), kept_sum(f, 5)),
    "the final model": lambda f: edit_arrays(checkpoint(f, 5), ".params"),
    "the model before": lambda f: edit_arrays(checkpoint(f, 4), ".params"),
    "the optimiser": lambda f: edit_arrays(checkpoint(f, 5), "participation"),
    "a checkpoint deleted": lambda f: checkpoint(f, 4).unlink(),
    "the final checkpoint deleted": lambda f: checkpoint(f, 5).unlink(),
    "checkpoints in each other's place": lambda f: swap(checkpoint(f, 4), checkpoint(f, 5)),
    "the final checkpoint of another name": lambda f: checkpoint(f, 5).rename(checkpoint(f, 6)),
    "a checkpoint more": lambda f: shutil.copy(checkpoint(f, 4), checkpoint(f, 3)),
    "what is known per client": lambda f: edit_arrays(f / "clients.safetensors", "participation"),
    "what is known per client deleted": lambda f: (f / "clients.safetensors").unlink(),
    "the exhibit": lambda f: edit_arrays(f / "exhibit.safetensors", "clear"),
    "another threat": lambda f: claim(f, threat="semi_malicious"),
    "another minimum": lambda f: claim(f, minimum_cohort=6),
    "another adversarial rate": lambda f: claim(f, adversarial_rate=0.4),
    "another dropout rate": lambda f: claim(f, dropout_rate=0.0),
    "another modulus": lambda f: claim(f, modulus_bits=32),
    "other words on the terms": lambda f: claim(f, says="It is all safe."),
    "another chain of stages": lambda f: edit_json(f, "plan.json", lambda v: v.update(aggregation="none")),
    "another number of a stage": lambda f: edit_json(
        f, "plan.json", lambda v: v["aggregation"][0]["clip"].update(norm=0.25)
    ),
    "another loss": lambda f: edit_json(f, "run.json", lambda v: v["code"]["programs"].update(loss="0" * 64)),
    "another plan in its terms": lambda f: edit_json(
        f, "run.json", lambda v: v["fingerprints"].update(terms="0" * 64)
    ),
    "a document of another version": lambda f: edit_json(f, "plan.json", lambda v: v.update(fairyring=2)),
    "another population": lambda f: edit_json(f, "population.json", lambda v: v.update(clients=9)),
    "more rounds planned": lambda f: edit_json(f, "run.json", lambda v: v.update(rounds=9)),
    "fewer rounds planned": lambda f: edit_json(f, "run.json", lambda v: v.update(rounds=4)),
    "another seed": lambda f: edit_json(f, "run.json", lambda v: v.update(seed=6)),
    "another dropout": lambda f: edit_json(f, "run.json", lambda v: v.update(dropout=0.0)),
    "other assumptions": lambda f: edit_json(f, "run.json", lambda v: v.update(assumptions=[])),
    "another time": lambda f: edit_json(f, "run.json", lambda v: v.update(started="2020-01-01T00:00:00")),
    "no history": lambda f: edit_json(f, "run.json", lambda v: v.pop("history")),
    "another name": lambda f: edit_json(f, "run.json", lambda v: v["history"].update(run="0" * 64)),
    "sums that need not be kept": lambda f: edit_json(
        f, "run.json", lambda v: v["history"].update(sums=False)
    ),
    "still running": lambda f: edit_json(f, "run.json", lambda v: v.update(status="running")),
    "no last head": lambda f: (f / SIGNED).unlink(),
    "no end": lambda f: (f / SEAL).unlink(),
    "the last head of another run": lambda f: as_of_other(f, SIGNED),
    "the end of another run": lambda f: as_of_other(f, SEAL),
}


@pytest.mark.parametrize("name", EDITS)
def test_what_was_changed_afterwards_is_found(name: str, copy: Callable[[str], Path]) -> None:
    copy("other")
    folder = copy("finished")
    EDITS[name](folder)
    with pytest.raises((fr.SecureSumError, fr.RunDamaged, fr.RunError)):
        fr.verify_run(folder)


def covered(folder: Path) -> list[Path]:
    unchecked = {*fr.verify_run(folder).unchecked, "lock"}
    found = sorted(p for p in folder.rglob("*") if p.is_file())
    return [p for p in found if str(p.relative_to(folder)) not in unchecked]


class Copies:
    """One copy of every kept run, which a test may change as long as it puts everything back."""

    def __init__(self, kept: dict[str, Path], place: Path) -> None:
        self.folders = {name: Path(shutil.copytree(path, place / name)) for name, path in kept.items()}
        self.files = {name: covered(folder) for name, folder in self.folders.items()}

    def check(self, name: str, change: Callable[[], object]) -> None:
        before = {path: path.read_bytes() for path in self.files[name]}
        change()
        try:
            if {p: p.read_bytes() if p.exists() else None for p in before} != before:
                with pytest.raises(FairyringError):
                    fr.verify_run(self.folders[name])
        finally:
            for path, content in before.items():
                if not path.exists() or path.read_bytes() != content:
                    path.write_bytes(content)


@pytest.fixture(scope="module")
def copies(kept: dict[str, Path], tmp_path_factory: pytest.TempPathFactory) -> Copies:
    return Copies(kept, tmp_path_factory.mktemp("copies"))


def signed_for(path: Path) -> bool:
    """Of a run that has not ended: whether every byte counts. Of a checkpoint only the model does."""
    return path.suffix != ".safetensors"


@settings(max_examples=80, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_changed_byte_of_a_covered_file_is_believed(copies: Copies, data: st.DataObject) -> None:
    name = data.draw(st.sampled_from(["finished", "aborted", "killed"]))
    path = data.draw(st.sampled_from([p for p in copies.files[name] if name != "killed" or signed_for(p)]))
    content = path.read_bytes()
    at, flip = data.draw(st.integers(0, len(content) - 1)), data.draw(st.integers(1, 255))
    changed = content[:at] + bytes([content[at] ^ flip]) + content[at + 1 :]
    copies.check(name, lambda: path.write_bytes(changed))


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.data())
def test_no_covered_file_can_be_missing_cut_short_made_longer_or_another(
    copies: Copies, data: st.DataObject
) -> None:
    name = data.draw(st.sampled_from(["finished", "aborted"]))
    path, second = (data.draw(st.sampled_from(copies.files[name])) for _ in range(2))
    content = path.read_bytes()
    cut = data.draw(st.integers(0, len(content) - 1))
    change = data.draw(
        st.sampled_from(
            [
                path.unlink,
                lambda: path.write_bytes(content[:cut]),
                lambda: path.write_bytes(content + content[cut:]),
                lambda: swap(path, second),
                lambda: shutil.copy(second, path) if second != path else None,
            ]
        )
    )
    copies.check(name, change)


@pytest.mark.parametrize("name", ["finished", "aborted", "killed"])
@pytest.mark.parametrize("lines", range(5))
def test_metrics_cannot_be_cut_at_any_line(name: str, lines: int, copies: Copies) -> None:
    folder = copies.folders[name]
    copies.check(name, lambda: edit_lines(folder, lambda all_: all_[:lines]))
    copies.check(name, lambda: edit_lines(folder, lambda all_: [*all_[:lines], *all_[lines + 1 :]]))


# -- what only a noted head shows ---------------------------------------------------------------------------


def rewritten(folder: Path, **fields: Any) -> None:
    """Change the last record, and all that follows from it and needs no key."""
    edit_record(folder, ROUNDS, **fields)
    line = (folder / "metrics.jsonl").read_bytes().splitlines()[-1]
    raw = transcript(folder, ROUNDS).read_bytes()
    signed = history.read_as(Signed, folder / SIGNED)
    before = msgspec.msgpack.decode(raw, type=Transcript).previous
    assert before is not None
    head = history.head_of_round(before, line, raw, signed.model)
    signed = msgspec.structs.replace(signed, head=head)
    (folder / SIGNED).write_bytes(msgspec.msgpack.encode(signed))
    facts, arrays = read_tensors(checkpoint(folder, ROUNDS), expected="", do="")
    facts["history"] = head.hex()
    checkpoint(folder, ROUNDS).write_bytes(tensors(arrays, facts))
    seal = history.read_as(Seal, folder / SEAL)
    seal = msgspec.structs.replace(seal, head=head, files=digests_of(folder))
    (folder / SEAL).write_bytes(msgspec.msgpack.encode(seal))


def unsigned(folder: Path, *names: str) -> None:
    for name, kind in ((SIGNED, Signed), (SEAL, Seal)):
        if name in names:
            found = history.read_as(kind, folder / name)
            (folder / name).write_bytes(msgspec.msgpack.encode(msgspec.structs.replace(found, signatures=())))


@pytest.mark.parametrize("names", [(), (SIGNED,), (SEAL,)])
def test_the_end_cannot_be_written_again_with_the_old_signatures(
    names: tuple[str, ...], copy: Callable[[str], Path]
) -> None:
    folder = copy("finished")
    rewritten(folder, loss=0.01)
    unsigned(folder, *names)
    with pytest.raises(fr.SecureSumError):
        fr.verify_run(folder)


def test_an_end_written_again_without_signatures_is_not_whole_and_a_noted_head_denies_it(
    copy: Callable[[str], Path],
) -> None:
    folder = copy("finished")
    noted = fr.verify_run(folder).head
    assert fr.verify_run(folder, head=noted.upper()[:16]).noted == "the end"
    rewritten(folder, loss=0.01)
    unsigned(folder, SIGNED, SEAL)
    found = fr.verify_run(folder)
    assert (found.signed, found.whole) == (0, False)
    with pytest.raises(fr.SecureSumError, match="head noted earlier"):
        fr.verify_run(folder, head=noted)


def test_an_earlier_round_cannot_be_written_again_even_without_signatures(
    copy: Callable[[str], Path],
) -> None:
    folder = copy("finished")
    edit_record(folder, 4, loss=0.01)
    rewritten(folder)
    unsigned(folder, SIGNED, SEAL)
    with pytest.raises(fr.SecureSumError, match="history before round 5"):
        fr.verify_run(folder)


@pytest.mark.parametrize("head", ["", "0" * 15, "x" * 16, "0" * 65, "5:" + "0" * 16])
def test_what_is_no_head_is_refused(head: str, kept: dict[str, Path]) -> None:
    with pytest.raises(fr.RunError, match="a head noted earlier"):
        fr.verify_run(kept["finished"], head=head)


def test_files_that_nothing_covers_are_named(copy: Callable[[str], Path]) -> None:
    folder = copy("finished")
    (folder / "report.html").write_text("Epsilon 0")
    (folder / "secure_sum" / "note.txt").write_text("all is well")
    assert fr.verify_run(folder).unchecked == ("report.html", "secure_sum/note.txt")
    (folder / "lock").write_bytes(b"a note")  # the run let it go, empty
    assert fr.verify_run(folder).unchecked == ("lock", "report.html", "secure_sum/note.txt")


# -- runs without a history -----------------------------------------------------------------------------------


def test_a_run_whose_updates_were_added_in_the_clear_has_nothing_to_verify(tmp_path: Path) -> None:
    run(tmp_path / "run", 1, secure_sum="ideal")
    with pytest.raises(fr.RunError, match="not summed by the masked protocol"):
        fr.verify_run(tmp_path / "run")


def test_a_run_that_was_saved_afterwards_kept_nothing_to_verify(tmp_path: Path) -> None:
    given = {"seed": 5, "secure_sum": "protocol", "processors": 1}
    fr.simulate(PLAN, people(SIZES), rounds=1, **given).save(tmp_path / "run")
    with pytest.raises(fr.RunError, match="without a history"):
        fr.verify_run(tmp_path / "run")
    run(tmp_path / "run", 2, dropout=0.0, resume=True)
    with pytest.raises(fr.RunError, match="without a history"):
        fr.verify_run(tmp_path / "run")


def test_a_run_of_an_older_form_and_a_plan_that_is_not_the_runs_are_told(copy: Callable[[str], Path]) -> None:
    folder = copy("finished")
    edit_json(folder, "plan.json", lambda value: value["aggregation"][0]["clip"].update(norm=0.25))
    with pytest.raises(fr.SecureSumError, match=r"plan\.json.*that of run\.json"):
        fr.verify_run(folder)
    edit_json(folder, "plan.json", lambda value: value.update(fairyring=2))
    with pytest.raises(fr.RunDamaged, match=r"version 2.*version 3"):
        fr.verify_run(folder)
    edit_json(folder, "run.json", lambda value: value.pop("form"))
    with pytest.raises(fr.RunMismatch, match="form 1"):
        fr.verify_run(folder)


def test_devices_that_agreed_to_another_plan_than_the_one_described_are_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All is signed as it is: what the terms name is reckoned again, from the plan that a person reads."""
    other = plan(clip=5.0)
    terms = PLAN._terms(bytes.fromhex(other.digest()))
    with monkeypatch.context() as patch:
        patch.setattr(fr.Plan, "terms", property(lambda _: terms))
        run(tmp_path / "run", rounds=2)
    with pytest.raises(fr.SecureSumError, match="devices agreed to"):
        fr.verify_run(tmp_path / "run")
