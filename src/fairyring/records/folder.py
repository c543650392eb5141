"""A run's folder open for writing: a crash at any moment loses no finished checkpoint.

Every file but `metrics.jsonl` is written beside its place, flushed to the disk and renamed. `metrics.jsonl` is only
appended to. When a run is resumed from a checkpoint, the records after it are cut off, since those rounds are run again.

The folder of a private run is for its owner alone, and so is every file in it from the moment it exists: the privacy guarantee
does not cover everything in it.
"""

import hashlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors

from fairyring.core.digest import digest
from fairyring.core.errors import RunDamaged, RunError, RunMismatch
from fairyring.core.files import ANYBODY, OWNER, append_to, make_folder, replace_file, storage
from fairyring.core.lock import Lock
from fairyring.core.reading import NotJson, read_json
from fairyring.core.tensors import tensors
from fairyring.records.layout import (
    CHECKPOINT,
    CHECKPOINTS,
    INIT,
    IS_CHECKPOINT,
    LEDGER,
    LOCK,
    METRICS,
    MODEL,
    MODELS,
    OF_A_RUN,
    PLAN,
    POPULATION,
    RUN,
    TRANSCRIPTS,
)
from fairyring.records.round_record import RoundRecord, read_record

KEPT = 2  # checkpoints, and sums
_WRITTEN = (INIT, PLAN, MODEL, POPULATION)
_BEFORE_RUN = {
    LOCK,
    CHECKPOINTS,
    *_WRITTEN,
    *(f"{name}.part" for name in (*_WRITTEN, RUN)),
}  # what is written before run.json


class RunFolder:
    """A run folder open for writing.

    Attributes:
        path: of the folder.
        private: whether it and all files in it are for their owner alone.
        keeps: whether what is written is kept; always.
    """

    keeps = True

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self.path, self.private = path, private

    @property
    def mode(self) -> int:
        """The mode of every file in it."""
        return OWNER if self.private else ANYBODY

    def hold(self) -> Lock:
        """Lock the folder: no other process, and no other run of this one, may write it until the lock is released.

        Raises:
            RunError: it is locked; the error says by whom.
            StorageError: the folder cannot be written.
        """
        return Lock(self.path / LOCK, mode=self.mode)

    @classmethod
    def create(
        cls, path: str | os.PathLike[str], *, private: bool = False, overwrite: bool = False
    ) -> "RunFolder":
        """A new run folder.

        Args:
            path: where.
            private: for its owner alone.
            overwrite: delete a run that is there, but not one with a ledger: what was spent stays spent.

        Raises:
            RunError: there is something at `path` already, or another process writes it.
            StorageError: it cannot be made.
        """
        folder = Path(path)
        if overwrite and (folder / RUN).is_file():
            if (folder / LEDGER).exists():
                raise RunError(
                    f"run folder {folder}",
                    given="a private run, to be overwritten",
                    expected="a run without a ledger: what it spent of its people stays spent, and only the ledger says how much",
                    do="Choose another folder.",
                )
            clear(folder)
        clear_beginning(folder)
        if folder.exists() and (not folder.is_dir() or {entry.name for entry in folder.iterdir()} - {LOCK}):
            raise RunError(
                f"run folder {folder}",
                given="a path that is in use",
                expected="a new or empty folder",
                do="Choose another folder, resume that run (resume=True, --resume), or replace it (overwrite=True, --overwrite).",
            )
        created = cls(folder, private=private)
        with storage(folder):
            make_folder(folder, private=private)
            if private:
                created.close_to_others()  # it may have been there before, empty and open
            make_folder(folder / CHECKPOINTS, private=private)
        return created

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> "RunFolder":
        """A run folder that exists.

        Raises:
            RunError: there is none at `path`.
            RunDamaged: there is something, but not a run.
        """
        folder = Path(path)
        if not folder.is_dir():
            raise RunError(
                f"run folder {folder}",
                given="a file" if folder.exists() else "no such folder",
                expected="a run",
                do="Check the path, or start the run anew.",
            )
        if not (folder / RUN).is_file():
            raise _no_run(folder)
        return cls(folder, private=_is_private(folder / RUN))

    def close_to_others(self) -> None:
        """Make the folder accessible to its owner alone."""
        with storage(self.path):
            if self.path.stat().st_mode & 0o077:
                os.chmod(self.path, 0o700)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            RunDamaged: it is missing, or not a JSON object.
        """
        path = self.path / name
        try:
            return read_json(path.read_bytes(), dict[str, Any])
        except (OSError, NotJson) as error:
            raise RunDamaged(
                str(path), given=f"{error}", expected="a JSON object", do="Restore the file from a copy."
            ) from error

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder, atomically."""
        self._replace(self.path / name, msgspec.json.format(msgspec.json.encode(value), indent=2))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a safetensors file of the folder, atomically."""
        self._replace(self.path / name, tensors(arrays, {}))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of the folder, or of a folder in it, atomically."""
        path = self.path / name
        with storage(path):
            make_folder(path.parent, private=self.private)
        self._replace(path, content)

    def tidy(self) -> None:
        """Remove what a crash left of files that were being written; only for whoever has locked the folder."""
        for pattern in ("[!.]*.part", CHECKPOINTS + "/*.part", MODELS + "/*.part", TRANSCRIPTS + "/*.part"):
            for left in self.path.glob(pattern):
                left.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def append_records(self, records: Iterable[RoundRecord]) -> None:
        """Add a line to metrics.jsonl for each record."""
        lines = b"".join(record.line() + b"\n" for record in records)
        path = self.path / METRICS
        with storage(path), append_to(path, mode=self.mode) as file:
            file.write(lines)

    def records(self, *, upto: int | None = None) -> list[RoundRecord]:
        """The rounds recorded so far, up to and including round `upto`; a line that is cut short is left out."""
        return [record for record, _ in self._lines(upto)]

    def cut_records(self, upto: int) -> None:
        """Drop the records of rounds after `upto`; the other lines keep their bytes."""
        self._replace(self.path / METRICS, b"".join(line + b"\n" for _, line in self._lines(upto)))

    def _lines(self, upto: int | None) -> list[tuple[RoundRecord, bytes]]:
        path = self.path / METRICS
        lines = []
        for line in path.read_bytes().split(b"\n") if path.exists() else ():
            try:
                record = read_record(line)
            except NotJson:
                continue
            if upto is None or record.round <= upto:
                lines.append((record, line))
        return lines

    def checkpoint(self, round: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Save the state after `round`; of older checkpoints only the last one is kept."""
        path = self.path / CHECKPOINTS / CHECKPOINT.format(round)
        with storage(path), append_to(self.path / METRICS, mode=self.mode) as file:
            os.fsync(file.fileno())
        self._replace(path, tensors(arrays, {**facts, "round": round, "digest": _digest(arrays)}))
        for old in self._files(CHECKPOINTS)[:-KEPT]:
            old.unlink(missing_ok=True)

    def last_checkpoint(self, fingerprint: str) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
        """The newest checkpoint as `(round, arrays, facts)`; None if the run has none yet.

        Raises:
            RunDamaged: it cannot be read.
            RunMismatch: it belongs to another plan.
        """
        checkpoints = self._files(CHECKPOINTS)
        if not checkpoints:
            return None
        path = checkpoints[-1]
        earlier = "Remove the folder and start anew."
        if len(checkpoints) > 1:
            earlier = f"Remove it to resume from {checkpoints[-2].name}."
        arrays, facts = _read(path, expected="a whole checkpoint", do=earlier)
        round, made_by = facts["round"], str(facts.get("fingerprint"))
        if made_by != fingerprint:
            raise RunMismatch(
                str(path),
                given=f"a checkpoint of plan {made_by[:12]}",
                expected=f"one of plan {fingerprint[:12]}",
                do="Resume with the plan, population, seed and JAX version the run was started with, or start a new run folder.",
            )
        return round, arrays, facts

    def keep_model(self, round: int, arrays: Mapping[str, np.ndarray]) -> None:
        """Keep the model after `round`, given its named arrays."""
        with storage(self.path):
            make_folder(self.path / MODELS, private=self.private)
        path = self.path / MODELS / CHECKPOINT.format(round)
        self._replace(path, tensors(arrays, {"round": round, "digest": _digest(arrays)}))

    def drop_model(self, round: int) -> None:
        """Keep the model after `round` no longer."""
        self.remove(f"{MODELS}/{CHECKPOINT.format(round)}")

    def kept_models(self) -> list[int]:
        """The rounds whose models are kept, ascending."""
        return [_round(path) for path in self._files(MODELS)]

    def models(self) -> list[int]:
        """The rounds whose models are here, kept or as part of a checkpoint, ascending."""
        return sorted({_round(path) for place in (MODELS, CHECKPOINTS) for path in self._files(place)})

    def model(self, round: int) -> dict[str, np.ndarray]:
        """Named arrays among which are the parameters after `round`; see `fairyring.records.models.leaves_of`.

        Raises:
            RunError: there is no such model here.
            RunDamaged: it cannot be read.
        """
        for place in (MODELS, CHECKPOINTS):
            path = self.path / place / CHECKPOINT.format(round)
            if path.is_file():
                return _read(path, expected="a whole model", do="Take the model of another round.")[0]
        raise RunError(
            f"model after round {round}",
            given=f"none in {self.path}",
            expected=f"one of the rounds {', '.join(map(str, self.models())) or '(none yet)'}",
            do='Run with keep="all", keep="best" or a number.',
        )

    def _files(self, place: str) -> list[Path]:
        folder = self.path / place
        paths = [p for p in folder.iterdir() if IS_CHECKPOINT.fullmatch(p.name)] if folder.is_dir() else []
        return sorted(paths, key=_round)

    def _replace(self, path: Path, content: bytes) -> None:
        replace_file(path, content, mode=self.mode)


def _no_run(folder: Path) -> RunError:
    """What to say of a folder without run.json."""
    inside = {entry.name for entry in folder.iterdir()}
    if inside <= OF_A_RUN or _only_begun(folder):
        return RunDamaged(
            f"run folder {folder}",
            given="a folder without run.json",
            expected="the folder of a run",
            do="The run stopped before anything was saved: start it anew, without resume=True or --resume."
            if _only_begun(folder) or inside <= {LOCK}
            else "Restore run.json from a copy, or start the run anew in another folder.",
        )
    within = sorted({str(path.parent) for depth in ("*", "*/*") for path in folder.glob(f"{depth}/{RUN}")})
    return RunError(
        f"run folder {folder}",
        given=f"a folder of other things, with {len(within)} runs in it"
        if within
        else "a folder of other things",
        expected="the folder of one run, with run.json in it",
        do=f"Give one of them, such as {within[0]}." if within else "Check the path.",
    )


def _only_begun(folder: Path) -> bool:
    """Whether there is nothing in a folder but what a run writes before its `run.json`."""
    names = {entry.name for entry in folder.iterdir()} if folder.is_dir() else set()
    checkpoints = folder / CHECKPOINTS
    saved = checkpoints.is_dir() and any(checkpoints.iterdir())
    # A run holds its lock before it writes anything: without one, these are someone else's files.
    return LOCK in names and len(names) > 1 and names <= _BEFORE_RUN and not saved


def clear_beginning(folder: Path) -> None:
    """Delete what a run has left that ended before its `run.json` was written, so that the folder is as good as new.

    Nothing of such a run has been computed or released. Its lock stays: whoever has it open would lock another file than the next.

    Raises:
        RunError: another process is just beginning a run there.
    """
    if not _only_begun(folder):
        return
    lock = Lock(folder / LOCK)
    try:
        if _only_begun(folder):  # still, now that nobody else can write there
            _delete(entry for entry in folder.iterdir() if entry.name != LOCK)
    finally:
        lock.release()


def clear(folder: Path) -> None:
    """Delete the run in a folder, unless there is something in it that a run does not write, which stays with all the rest.

    Raises:
        RunError: another process writes it.
    """
    names = {entry.name.removesuffix(".part") for entry in folder.iterdir()} if folder.is_dir() else set()
    if not names or names - OF_A_RUN:
        return
    lock = Lock(folder / LOCK)
    try:
        _delete(folder.iterdir())
    finally:
        lock.release()


def _delete(entries: Iterable[Path]) -> None:
    """Delete files, and folders of files."""
    for entry in entries:
        with storage(entry):
            if entry.is_dir():
                for inner in entry.iterdir():
                    inner.unlink()
                entry.rmdir()
            else:
                entry.unlink()


def _round(path: Path) -> int:
    return int(path.stem.split("-")[1])


def _read(path: Path, *, expected: str, do: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Arrays and plain values of a checkpoint or a model, whose digest is checked.

    Raises:
        RunDamaged: they are not what was written.
    """
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = read_json(file.metadata()["fairyring"], dict[str, Any])
            arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        facts["round"] = int(facts["round"])
        if facts.pop("digest") != _digest(arrays):
            raise ValueError("numbers that are not those that were written")
    except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
        raise RunDamaged(str(path), given=f"{error}", expected=expected, do=do) from error
    return arrays, facts


def _digest(arrays: Mapping[str, np.ndarray]) -> str:
    """SHA-256 of arrays with their names."""
    names = sorted(arrays)
    return hashlib.sha256("\0".join(names).encode() + digest(arrays[name] for name in names)).hexdigest()


def _is_private(path: Path) -> bool:
    """Whether the run of a run.json is private; True where it cannot be read."""
    try:
        return read_json(path.read_bytes(), dict[str, Any]).get("privacy") is not None
    except (OSError, NotJson):
        return True
