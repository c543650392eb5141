"""The folder of a study: `study.json`, and a run file for each arm beside it."""

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
import numpy as np

from fairyring.core.errors import RunDamaged, RunError
from fairyring.core.files import replace_file
from fairyring.core.reading import NotJson, read_json
from fairyring.ecology.results.verdicts import decided

FILE = "study.json"
# Keys of older files and what they are called now; `read_study` translates them, and nothing else knows the old ones.
_OLDER_KEYS = {
    "newcomers": "immigrants",
    "unrelated": "no-inheritance",
    "passed_beside_unrelated": "passed_beside_no-inheritance",
    "against_unrelated": "against_no-inheritance",
}
_OLDER_ARMS = {"no-inheritance": "unrelated"}


def run_path(folder: Path, arm: str) -> Path:
    """The run file of an arm. A run that an older version left under the arm's former name is used where it lies."""
    former = folder / f"{_OLDER_ARMS.get(arm, arm)}.eco"
    return former if former.exists() else folder / f"{arm}.eco"


def write_study(folder: Path, results: Mapping[str, Any]) -> None:
    """Write `study.json`: the results as plain values.

    Raises:
        StorageError: it cannot be written; an older file stays as it was.
    """
    replace_file(folder / FILE, msgspec.json.format(msgspec.json.encode(plain(results)), indent=1))


def read_study(folder: Path) -> dict[str, Any]:
    """The contents of a study's `study.json`, with its verdicts.

    Verdicts of a file that was written before they were stored are decided anew from its numbers.

    Raises:
        RunError: the folder holds no study.
        RunDamaged: the file is not one that a study writes.
    """
    file = folder / FILE
    if not file.is_file():
        raise RunError(
            str(folder),
            given=f"no {FILE} in it" if folder.is_dir() else "no such folder",
            expected="the folder of a study",
            do="Run a study first: fairyring ecology study v1.",
        )
    try:
        results = read_json(file.read_bytes())
    except (OSError, NotJson) as error:
        raise damaged(file, str(error)) from error
    if not isinstance(results, dict) or not isinstance(results.get("study"), str):
        raise damaged(file, "no study")
    results = _with_current_keys(results)
    if "verdicts" not in results:
        try:
            results["verdicts"] = decided(results)
        except (KeyError, IndexError, TypeError, ValueError, AttributeError) as error:
            raise damaged(file, f"{type(error).__name__}: {error}") from error
    return results


def damaged(file: Path, given: str) -> RunDamaged:
    """The error for a study file that cannot be understood."""
    return RunDamaged(
        str(file),
        given=given,
        expected="a file that a study wrote",
        do="Run the study again in that folder; it continues from the runs that are there.",
    )


def plain(value: Any) -> Any:
    """A result as JSON values.

    Dataclasses become objects that also hold their properties `met`, `verdict` and `why`; arrays become lists; numbers that
    are not finite become null.
    """
    if dataclasses.is_dataclass(value):
        fields = {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
        properties = {
            name: getattr(value, name) for name in ("met", "verdict", "why") if hasattr(value, name)
        }
        return fields | plain(properties)
    if isinstance(value, dict):
        return {key: plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [plain(item) for item in value]
    if isinstance(value, np.ndarray):
        return plain(value.tolist())
    if isinstance(value, np.generic):
        return plain(value.item())
    if isinstance(value, float) and not np.isfinite(value):
        return None
    return value


def _with_current_keys(value: Any) -> Any:
    if isinstance(value, dict):
        return {_OLDER_KEYS.get(key, key): _with_current_keys(item) for key, item in value.items()}
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return [_with_current_keys(item) for item in value]
    return value
