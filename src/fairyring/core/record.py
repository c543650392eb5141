"""The run folder: everything a run leaves behind, written so that a crash at any moment loses no finished checkpoint.

    run.json              what ran: versions, seed, machine, status, what was assumed
    plan.json             the plan as plain values
    population.json       the data, in numbers
    metrics.jsonl         a line a round
    clients.safetensors   what is known per client at the end
    checkpoints/          round-000100.safetensors: the whole resumable state, the last two kept
    clients/              the clients' own states, where an algorithm has them
    secure_sum/           a transcript a round of the masked protocol, where it ran, the last two sums, and what
                          the devices signed: head.msgpack after the last round, seal.msgpack at the end
    lock                  who is writing the folder now, if anybody is

Every file but `metrics.jsonl` is written beside its place, flushed to the disk and renamed. `metrics.jsonl` is only
appended to; what it holds past the checkpoint one resumes from is cut, since those rounds are run again.

The folder of a run that promises something to its clients is its owner's alone, and so is every file in it, from the
moment it exists: not all that lies there is inside the promise.
"""

import fcntl
import os
import re
import socket
from collections.abc import Iterable, Mapping
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
import numpy as np
import safetensors
import safetensors.numpy

from fairyring.core.errors import RunDamaged, RunError, RunMismatch, StorageError
from fairyring.core.reading import NotJson, read_json

CHECKPOINT = re.compile(r"round-(\d{6,})\.safetensors")
KEPT = 2
ANYBODY, OWNER = 0o666, 0o600  # who may read and write a file, less the process's own mask


class RunFolder:
    """A run folder open for writing.

    Attributes:
        path: of the folder.
        private: it and all files in it are their owner's alone.
    """

    def __init__(self, path: Path, *, private: bool = False) -> None:
        self.path, self.private = path, private

    @property
    def mode(self) -> int:
        """Of every file in it."""
        return OWNER if self.private else ANYBODY

    def hold(self) -> "Held":
        """Keep every other process, and every other run of this one, from writing the run until it is let go.

        Raises:
            RunError: somebody else holds it; the error says who.
            StorageError: the folder cannot be written.
        """
        return Held(self.path / "lock", mode=self.mode)

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, private: bool = False) -> "RunFolder":
        """A new run folder.

        Args:
            path: where.
            private: for its owner alone.

        Raises:
            RunError: there is something at `path` already.
            StorageError: it cannot be made.
        """
        folder = Path(path)
        if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
            raise RunError(
                f"run folder {folder}",
                given="a path that is in use",
                expected="a new or empty folder",
                do="Choose another folder, or resume that run (resume=True, --resume).",
            )
        made = cls(folder, private=private)
        with _storage(folder):
            make_folder(folder, private=private)
            if private:
                made.close_to_others()  # it may have been there before, empty and open
            make_folder(folder / "checkpoints", private=private)
        return made

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
                given="no such folder",
                expected="a run",
                do="Check the path, or start the run anew.",
            )
        if not (folder / "run.json").is_file():
            raise RunDamaged(
                f"run folder {folder}",
                given="a folder without run.json",
                expected="the folder of a run",
                do="The run stopped before anything was saved: remove the folder and start it anew.",
            )
        return cls(folder, private=_promises(folder / "run.json"))

    def close_to_others(self) -> None:
        """Make the folder its owner's alone, whoever could look into it before."""
        with _storage(self.path):
            if self.path.stat().st_mode & 0o077:
                os.chmod(self.path, 0o700)

    def read(self, name: str) -> dict[str, Any]:
        """A JSON file of the folder.

        Raises:
            RunDamaged: it is missing or no JSON object.
        """
        path = self.path / name
        try:
            return read_json(path.read_bytes(), dict[str, Any])
        except (OSError, NotJson) as error:
            raise RunDamaged(
                str(path), given=f"{error}", expected="a JSON object", do="Restore the file from a copy."
            ) from error

    def write(self, name: str, value: Mapping[str, Any]) -> None:
        """Write a JSON file of the folder, whole or not at all."""
        self._replace(self.path / name, msgspec.json.format(msgspec.json.encode(value), indent=2))

    def write_arrays(self, name: str, arrays: Mapping[str, np.ndarray]) -> None:
        """Write a safetensors file of the folder, whole or not at all."""
        self._replace(self.path / name, tensors(arrays, {}))

    def write_bytes(self, name: str, content: bytes) -> None:
        """Write a file of the folder, or of a folder in it, whole or not at all."""
        path = self.path / name
        with _storage(path):
            make_folder(path.parent, private=self.private)
        self._replace(path, content)

    def tidy(self) -> None:
        """Remove what a crash left of files that were being written; for whoever holds the folder."""
        for pattern in ("[!.]*.part", "checkpoints/*.part", "secure_sum/*.part"):
            for left in self.path.glob(pattern):
                left.unlink(missing_ok=True)

    def remove(self, name: str) -> None:
        """Remove a file of the folder, if it is there."""
        (self.path / name).unlink(missing_ok=True)

    def append_metrics(self, records: Iterable[Mapping[str, Any]]) -> None:
        """Add a line a record to metrics.jsonl."""
        lines = b"".join(msgspec.json.encode(record) + b"\n" for record in records)
        path = self.path / "metrics.jsonl"
        with _storage(path), append_to(path, mode=self.mode) as file:
            file.write(lines)

    def metrics(self, *, upto: int | None = None) -> list[dict[str, Any]]:
        """The rounds recorded so far, up to and with round `upto`; a line that is cut short is left out."""
        path = self.path / "metrics.jsonl"
        if not path.exists():
            return []
        records = []
        for line in path.read_bytes().split(b"\n"):
            try:
                record = read_json(line, dict[str, Any])
            except NotJson:
                continue
            if isinstance(record.get("round"), int) and (upto is None or record["round"] <= upto):
                records.append(record)
        return records

    def cut_metrics(self, upto: int) -> list[dict[str, Any]]:
        """Drop recorded rounds after `upto`; returns those that stay."""
        records = self.metrics(upto=upto)
        self._replace(self.path / "metrics.jsonl", b"".join(msgspec.json.encode(r) + b"\n" for r in records))
        return records

    def checkpoint(self, round: int, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> None:
        """Save the state after `round`; older checkpoints than the last two go."""
        path = self.path / "checkpoints" / f"round-{round:06d}.safetensors"
        with _storage(path), append_to(self.path / "metrics.jsonl", mode=self.mode) as file:
            os.fsync(file.fileno())
        self._replace(path, tensors(arrays, {**facts, "round": round}))
        for old in self._checkpoints()[:-KEPT]:
            old.unlink(missing_ok=True)

    def last_checkpoint(self, fingerprint: str) -> tuple[int, dict[str, np.ndarray], dict[str, Any]] | None:
        """The newest checkpoint as `(round, arrays, facts)`; None if the run has none yet.

        Raises:
            RunDamaged: it cannot be read.
            RunMismatch: it belongs to another plan.
        """
        found = self._checkpoints()
        if not found:
            return None
        path = found[-1]
        try:
            with safetensors.safe_open(path, framework="numpy") as file:
                facts = read_json(file.metadata()["fairyring"], dict[str, Any])
                round, made_by = int(facts["round"]), str(facts["fingerprint"])
                arrays = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
        except (OSError, safetensors.SafetensorError, KeyError, TypeError, ValueError) as error:
            earlier = (
                f"Remove it to resume from {found[-2].name}."
                if len(found) > 1
                else "Remove the folder and start anew."
            )
            raise RunDamaged(
                str(path), given=f"{error}", expected="a whole checkpoint", do=earlier
            ) from error
        if made_by != fingerprint:
            raise RunMismatch(
                str(path),
                given=f"a checkpoint of plan {made_by[:12]}",
                expected=f"one of plan {fingerprint[:12]}",
                do="Resume with the plan, population, seed and JAX version the run was started with, or start a new run folder.",
            )
        return round, arrays, facts

    def _checkpoints(self) -> list[Path]:
        folder = self.path / "checkpoints"
        found = [p for p in folder.iterdir() if CHECKPOINT.fullmatch(p.name)] if folder.is_dir() else []
        return sorted(found, key=lambda p: int(p.stem.split("-")[1]))

    def _replace(self, path: Path, content: bytes) -> None:
        replace_file(path, content, mode=self.mode)


class Held:
    """A file that one process at a time has locked.

    The lock is the system's, on the open file: it ends with the process, however that ends. What is in the file only says
    who has it. Over a network file system it is as good as that system's locks.

    Args:
        path: of the file, made if there is none. It stays: a lock on a file that is removed locks nothing.
        mode: who may read it, as for `replace_file`.

    Raises:
        RunError: somebody else has it.
        StorageError: it cannot be written.
    """

    def __init__(self, path: Path, *, mode: int = OWNER) -> None:
        with _storage(path):
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT, mode)
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            who = os.read(self._descriptor, 200).decode(errors="replace").strip()
            os.close(self._descriptor)
            raise RunError(
                f"run folder {path.parent}",
                given=f"one that is being written by {who or 'another process'}",
                expected="one process a folder: two would release the same rounds twice",
                do="Wait until it has ended, or end it; then resume.",
            ) from None
        except OSError as error:
            os.close(self._descriptor)
            raise StorageError(
                str(path),
                given=f"{error.strerror or error}",
                expected="a file system that has locks",
                do="Keep the run folder on another one.",
            ) from error
        try:
            since = datetime.now(UTC).isoformat(timespec="seconds")
            who = f"process {os.getpid()} on {socket.gethostname()} since {since}"
            with _storage(path):
                os.ftruncate(self._descriptor, 0)
                os.pwrite(self._descriptor, who.encode(), 0)
        except BaseException:
            os.close(self._descriptor)
            raise

    def release(self) -> None:
        """Let it go. A second time does nothing."""
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            try:
                os.ftruncate(descriptor, 0)
            finally:
                os.close(descriptor)


def make_folder(path: Path, *, private: bool) -> None:
    """A folder, if there is none; a private one is its owner's alone from the beginning."""
    path.mkdir(0o700 if private else 0o777, parents=True, exist_ok=True)


def append_to(path: Path, *, mode: int = ANYBODY) -> BinaryIO:
    """A file open at its end; one that is made here has `mode` from the beginning."""
    return open(path, "ab", opener=partial(os.open, mode=mode))


def replace_file(path: Path, content: bytes, *, mode: int = ANYBODY) -> None:
    """Put `content` at `path`, whole or not at all, whatever happens meanwhile.

    Args:
        path: of the file.
        content: of it.
        mode: who may read it, less the process's own mask; 0o600 for its owner alone.
    """
    beside = path.with_name(path.name + ".part")
    with _storage(path):
        try:
            beside.unlink(missing_ok=True)  # one left behind may be open to others
            descriptor = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
            with open(descriptor, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.replace(beside, path)
        except OSError:
            beside.unlink(missing_ok=True)
            raise
        flush_folder(path.parent)


def flush_folder(folder: Path) -> None:
    """Make renames in `folder` last through a power cut, where the system can."""
    if hasattr(os, "O_DIRECTORY"):
        descriptor = os.open(folder, os.O_DIRECTORY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def flatten_state(tree: Any) -> dict[str, np.ndarray]:
    """The leaves of a state as named arrays, in a fixed order."""
    import jax

    leaves = jax.tree_util.tree_flatten_with_path(tree)[0]
    return {f"{i:04d}{jax.tree_util.keystr(path)}": np.asarray(leaf) for i, (path, leaf) in enumerate(leaves)}


def restore_state(tree: Any, arrays: Mapping[str, np.ndarray]) -> Any:
    """A state shaped like `tree` from the arrays `flatten_state` made of one.

    Raises:
        RunMismatch: the arrays are those of a state of another shape.
    """
    import jax

    expected = {name: (leaf.shape, leaf.dtype) for name, leaf in flatten_state(tree).items()}
    given = {name: (leaf.shape, leaf.dtype) for name, leaf in arrays.items()}
    if expected != given:
        odd = sorted(set(expected.items()) ^ set(given.items()), key=str)[0]
        raise RunMismatch(
            "checkpoint",
            given=f"state {odd}",
            expected="the state of this plan",
            do="Resume with the plan of the run.",
        )
    return jax.tree_util.tree_unflatten(
        jax.tree_util.tree_structure(tree), [arrays[name] for name in expected]
    )


def tensors(arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> bytes:
    """A safetensors file of named arrays, with plain values beside them."""
    metadata = {"fairyring": msgspec.json.encode(facts).decode()}
    return safetensors.numpy.save(
        {k: np.ascontiguousarray(v).reshape(np.shape(v)) for k, v in arrays.items()}, metadata
    )


def read_tensors(path: Path, *, expected: str, do: str) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
    """The plain values and the arrays of a file that `tensors` made.

    Args:
        path: of the file.
        expected: what it should have been, for the error.
        do: what to do if it is not.

    Raises:
        RunError: there is no such file.
        RunDamaged: it is cut short, or no such file.
    """
    if not path.is_file():
        raise RunError(str(path), given="no such file", expected=expected, do="Check the path.")
    try:
        with safetensors.safe_open(path, framework="numpy") as file:
            facts = read_json((file.metadata() or {})["fairyring"], dict[str, Any])
            return facts, {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118
    except (OSError, safetensors.SafetensorError, KeyError, NotJson) as error:
        raise RunDamaged(
            str(path), given=f"{type(error).__name__}: {error}", expected=expected, do=do
        ) from error


def _promises(path: Path) -> bool:
    """Whether the run of a run.json promises something to its clients; one that cannot be read may."""
    try:
        return read_json(path.read_bytes(), dict[str, Any]).get("privacy") is not None
    except (OSError, NotJson):
        return True


@contextmanager
def _storage(path: Path):
    try:
        yield
    except OSError as error:
        raise StorageError(
            str(path),
            given=f"{error.strerror or error}",
            expected="a folder with room to write in",
            do="Free space or choose another folder; checkpoints saved before are whole, resume from them.",
        ) from error
