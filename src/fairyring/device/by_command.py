"""A participant's training as a command of its own: the model goes there and comes back in files."""

import json
import subprocess
import tempfile
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from fairyring.core.errors import PlanError, TrainingFailed
from fairyring.core.platforms import end_group
from fairyring.device.fitted import Fitted

_TAIL = 2000  # bytes of what a command said last


class Command:
    """Runs a command for each round; see `Participant.of_command`.

    Raises:
        PlanError: the command is empty, or there is no such form of files.
    """

    def __init__(self, command: Sequence[str], seconds: float, files: str) -> None:
        if isinstance(command, str) or not command or files not in ("npz", "safetensors"):
            raise PlanError(
                "command of a participant",
                given=f"{command!r}, files={files!r}"[:200],
                expected="a list of a program and its arguments, and files='npz' or 'safetensors'",
                do='Try Participant.of_command(["Rscript", "fit.R"]).',
            )
        self._command, self._seconds, self._files = [*map(str, command)], seconds, files

    def __call__(self, model: dict[str, np.ndarray], round: int) -> Fitted:
        """Run it: `Fit`.

        Raises:
            TrainingFailed: it failed, took too long, or wrote something else than it should.
            PlanError: the package safetensors is missing.
        """
        with tempfile.TemporaryDirectory(prefix="fairyring-") as name:
            folder = Path(name)
            _write(folder / f"model.{self._files}", model)
            facts = {"round": round, "parameters": list(model)}
            (folder / "round.json").write_text(json.dumps(facts), "utf-8")
            self._run(folder)
            return self._fitted(folder)

    def _run(self, folder: Path) -> None:
        with open(folder / "said.txt", "w+b") as said:
            try:
                process = subprocess.Popen(
                    [*self._command, str(folder)],
                    stdin=subprocess.DEVNULL,
                    stdout=said,
                    stderr=subprocess.STDOUT,
                    start_new_session=True,
                )
            except OSError as error:
                raise self._failure("crashed", f"{error.strerror or error}") from error
            try:
                status = process.wait(self._seconds)
            except BaseException as error:
                end_group(process.pid)  # with all that it has started
                process.kill()
                process.wait()
                if not isinstance(error, subprocess.TimeoutExpired):
                    raise
                raise self._failure("timeout", f"more than {self._seconds:g} s") from None
            if status != 0:
                said.seek(max(0, said.seek(0, 2) - _TAIL))
                last = said.read().decode(errors="replace").strip().splitlines()[-1:]
                raise self._failure("crashed", f"it ended with {status}: {' '.join(last)[:300]}")

    def _fitted(self, folder: Path) -> Fitted:
        try:
            facts = json.loads((folder / "fitted.json").read_text("utf-8"))
            model = _read(folder / f"fitted.{self._files}")
            metrics = {name: _measure(value) for name, value in facts.get("metrics", {}).items()}
            return Fitted(model, facts["examples"], _measure(facts["loss"]), metrics, facts.get("weight"))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise self._failure("nonsense", f"{type(error).__name__}: {error}"[:300]) from error

    def _failure(self, reason: str, given: str) -> TrainingFailed:
        return TrainingFailed(
            reason,
            given=f"{self._command[0]}: {given}",
            expected=f"a command that ends with 0 within {self._seconds:g} s, and writes fitted.{self._files} and fitted.json",
            do="Nothing is sent; run the command by hand on a folder.",
        )

    def __repr__(self) -> str:
        return f"Command({self._command!r})"


def _measure(value: Any) -> Any:
    if isinstance(value, list):
        first, second = value
        return float(first), float(second)
    return float(value)


def _write(path: Path, arrays: Mapping[str, np.ndarray]) -> None:
    if path.suffix == ".npz":
        # As np.savez writes it, which takes some names for its own arguments.
        with zipfile.ZipFile(path, "w") as archive:
            for name, array in arrays.items():
                with archive.open(f"{name}.npy", "w", force_zip64=True) as file:
                    np.lib.format.write_array(file, np.ascontiguousarray(array), allow_pickle=False)
        return
    path.write_bytes(_safetensors().save(dict(arrays)))


def _read(path: Path) -> dict[str, np.ndarray]:
    if path.suffix == ".npz":
        with np.load(path, allow_pickle=False) as archive:
            return {name: archive[name] for name in archive.files}
    return _safetensors().load(path.read_bytes())


def _safetensors() -> Any:
    try:
        import safetensors.numpy
    except ImportError as error:
        raise PlanError(
            "files='safetensors'",
            given="no package safetensors",
            expected="the package",
            do="Install safetensors, or give files='npz'.",
        ) from error
    return safetensors.numpy
