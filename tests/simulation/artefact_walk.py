"""Everything that lies in a run folder by name, and an attack that looks for examples in it."""

from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import safetensors

import fairyring as fr
from fairyring.rounds.artefacts import ARTEFACTS, Artefact
from tests.simulation.private_runs import CLASSES

WHOLE = {"plan.json", "source.json", "model.msgpack"}  # of one kind from beginning to end
JSON = {"run.json", "population.json", "audit.json"}


def names_in(folder: Path) -> Iterator[str]:
    """Every file, key and array, named as the table of artefacts names them."""
    for path in sorted(folder.rglob("*")):
        if not path.is_file():
            continue
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            with safetensors.safe_open(path, framework="numpy") as file:
                yield from (f"{name}: {array}" for array in file.keys())  # noqa: SIM118
                facts = msgspec.json.decode((file.metadata() or {}).get("fairyring", "{}"))
                yield from (f"{name}: @{key}" for key in _keys(facts))
        elif path.suffix == ".jsonl":
            for line in path.read_bytes().splitlines():
                yield from (f"{name}: {key}" for key in _keys(msgspec.json.decode(line)))
        elif name in JSON:
            yield from (f"{name}: {key}" for key in _keys(msgspec.json.decode(path.read_bytes())))
        else:
            yield name


def _keys(value: dict[str, Any]) -> Iterator[str]:
    for key, inner in value.items():
        if isinstance(inner, dict) and inner:
            yield from (f"{key}.{name}" for name in inner)
        else:
            yield key


def rows_of(name: str) -> list[Artefact]:
    """The rows of the table that name a thing."""
    return [one for one in ARTEFACTS if any(fnmatchcase(name, pattern) for pattern in one.names)]


def found_in(content: bytes, examples: np.ndarray) -> int:
    """How many examples, float32 `[n, features]`, can be read off bytes: as they are, scaled, or as a column of a gradient."""
    seen = np.zeros(len(examples), bool)
    width = examples.shape[1]
    unit = examples / np.linalg.norm(examples, axis=1, keepdims=True)
    for offset in range(4):
        rest = content[offset:]
        numbers = np.frombuffer(rest[: len(rest) // 4 * 4], "<f4")
        with np.errstate(invalid="ignore"):
            numbers = np.where(np.abs(numbers) < 1e12, numbers, 0)
        for stride in (1, CLASSES):
            if len(numbers) < width * stride:
                continue
            windows = np.lib.stride_tricks.sliding_window_view(numbers, width * stride)[:, ::stride]
            norms = np.sqrt(np.einsum("ij,ij->i", windows, windows, dtype=np.float64))
            kept = (windows[norms > 0] / norms[norms > 0, None]).astype(np.float32)
            seen |= (np.abs(kept @ unit.T) > 1 - 1e-5).any(axis=0)
    text = [[repr(float(v)).encode() for v in row] for row in examples]
    for i, row in enumerate(text):
        seen[i] |= sum(number in content for number in row) > 2
    return int(seen.sum())


def examples_of(population: fr.Population) -> np.ndarray:
    rows, _ = population.gather(np.arange(len(population)))
    return np.asarray(rows["x"], np.float32)
