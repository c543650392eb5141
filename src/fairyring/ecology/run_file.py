"""A run as one file: settings, seed, where every world is, and its history. From it a run goes on to the same bits.

The file is safetensors, so it holds arrays and plain values only and reading it runs nothing. A sense, event or policy
of one's own is in it by name; whoever reads such a run hands the settings in.
"""

import dataclasses
import hashlib
import os
import platform
from pathlib import Path
from typing import Any

import jax
import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.errors import EcologyError, RunDamaged, RunError, RunMismatch
from fairyring.core.record import flatten_state, read_tensors, replace_file, restore_state, tensors
from fairyring.ecology import events, policies, senses
from fairyring.ecology.evolution import Evolution
from fairyring.ecology.lineage import Lineage
from fairyring.ecology.running import Inhabited
from fairyring.ecology.settings import World, World1, World2
from fairyring.ecology.state import AMOUNTS, NUMBERS, State, empty

FORMAT = 1
_KINDS: dict[str, type[World]] = {"v1": World1, "v2": World2}
_SENSES = {sense.name: sense for sense in (senses.LEVEL, senses.CHANGE, senses.SIGNAL)}
_EVENTS = {event.name: event for event in (*events.STANDARD, *events.OPTIONAL)}
_POLICIES = {
    policy.name: policy
    for policy in (
        policies.tables(),
        *(policies.q_learning(kind) for kind in ("rewards", "retention", "evolved values", "lamarck")),
    )
}


def kind_of(settings: World) -> str:
    """ "v1" or "v2", as the command line calls the worlds."""
    return next(name for name, kind in _KINDS.items() if isinstance(settings, kind))


def refuse_existing(path: Path) -> None:
    """Raise `RunError` if there is something at `path`."""
    if path.exists():
        raise RunError(
            str(path),
            given="a file that is there already",
            expected="a new one",
            do="Choose another name, or go on with that run.",
        )


def save(run: Evolution, path: str | os.PathLike[str]) -> None:
    """Write a run, whole or not at all.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    facts = {
        "format": FORMAT,
        "kind": kind_of(run.settings),
        "settings": run.settings.described(),
        "seed": run.seed,
        "worlds": list(run.numbers),
        "seconds": run.seconds,
        "compiling": run.compiling,
        "numbers": NUMBERS,
        "amounts": AMOUNTS,
        "versions": {"fairyring": __version__, "jax": jax.__version__, "numpy": np.__version__},
        "machine": platform.machine(),
    }
    arrays: dict[str, np.ndarray] = {}
    for number, world in zip(run.numbers, run.worlds, strict=True):
        arrays |= {f"{number}/state/{name}": rows for name, rows in flatten_state(world.state).items()}
        arrays |= {
            f"{number}/lineage/{f.name}": getattr(world.lineage, f.name) for f in dataclasses.fields(Lineage)
        }
        arrays |= {f"{number}/{name}": getattr(world, name) for name in ("key", "numbers", "amounts")}
    facts["sha256"] = _digest(arrays)
    replace_file(Path(path), tensors(arrays, facts))


def load(path: str | os.PathLike[str], settings: World | None = None) -> Evolution:
    """Read a run.

    Args:
        path: of its file.
        settings: needed where the run has senses, events or a policy of one's own.

    Raises:
        RunError: there is no such file.
        RunDamaged: it is cut short, or is no run.
        RunMismatch: it is of another version of the format, or of other settings than those given.
    """
    path = Path(path)
    whole, do = "the whole file of an ecology's run", "Restore it from a copy, or make the run again."
    facts, arrays = read_tensors(path, expected=whole, do=do)
    try:
        if facts["format"] != FORMAT:
            raise RunMismatch(
                str(path),
                given=f"a run file of format {facts['format']}, by fairyring {facts['versions']['fairyring']}",
                expected=f"format {FORMAT}",
                do="Read it with that version, or make the run again: its settings and seed are in the file.",
            )
        if facts["sha256"] != _digest(arrays):
            raise RunDamaged(
                str(path),
                given="arrays that are not those that were saved",
                expected="a file nobody changed",
                do="Restore it from a copy, or make the run again.",
            )
        found = _settings(path, facts, settings)
        worlds = tuple(_world(found, arrays, number) for number in facts["worlds"])
    except (KeyError, TypeError) as error:
        raise RunDamaged(
            str(path), given=f"{type(error).__name__}: {error}", expected=whole, do=do
        ) from error
    return Evolution(
        found, facts["seed"], tuple(facts["worlds"]), worlds, facts["seconds"], facts["compiling"]
    )


def fingerprint(run: Evolution) -> str:
    """SHA-256 of a run's settings, seed and final states: the same for the same run, made anywhere in any sittings."""
    digest = hashlib.sha256(
        msgspec.json.encode([run.settings.described(), run.seed, list(run.numbers)], order="sorted")
    )
    for world in run.worlds:
        for name, rows in flatten_state(world.state).items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _digest(arrays: dict[str, np.ndarray]) -> str:
    digest = hashlib.sha256()
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def _settings(path: Path, facts: dict[str, Any], given: World | None) -> World:
    told = facts["settings"]
    if given is not None:
        if msgspec.json.encode(given.described(), order="sorted") != msgspec.json.encode(
            told, order="sorted"
        ):
            now = given.described()
            odd = next((name for name in told if told[name] != now.get(name)), "fields")
            raise RunMismatch(
                str(path),
                given=f"settings with {odd} {now.get(odd)!r}",
                expected=f"those of the run, {told.get(odd)!r}",
                do="Hand in the settings the run was made with.",
            )
        return given
    return settings_of(path, facts["kind"], told)


def settings_of(path: Path, kind: str, told: dict[str, Any]) -> World:
    """Settings from what `World.described` told of them.

    Raises:
        RunMismatch: senses, events or a policy that are not standard.
        RunDamaged: values that are none.
    """
    try:
        own = {"senses": tuple(_SENSES[name] for name in told["senses"]), "policy": _POLICIES[told["policy"]]}
        if "rewarded" in told:
            own["rewarded"] = tuple(_EVENTS[name] for name in told["rewarded"])
    except KeyError as error:
        raise RunMismatch(
            str(path),
            given=f"{error.args[0]!r}, which is not one of ours",
            expected="standard senses, events and policy, or the settings",
            do="Hand in the settings the run was made with: load(path, settings).",
        ) from None
    known = {f.name for f in dataclasses.fields(_KINDS[kind])}
    plain = {
        name: value
        for name, value in told.items()
        if name in known and name not in ("senses", "policy", "rewarded")
    }
    try:
        return _KINDS[kind](**plain, **own)
    except EcologyError as error:
        raise RunDamaged(
            str(path), given=str(error), expected="valid settings", do="Restore the file."
        ) from error


def _world(settings: World, arrays: dict[str, np.ndarray], number: int) -> Inhabited:
    prefix = f"{number}/state/"
    rows = {name.removeprefix(prefix): value for name, value in arrays.items() if name.startswith(prefix)}
    state: State = restore_state(empty(settings, settings.capacity), rows)
    return Inhabited(
        key=arrays[f"{number}/key"],
        state=state,
        lineage=Lineage(
            **{f.name: arrays[f"{number}/lineage/{f.name}"] for f in dataclasses.fields(Lineage)}
        ),
        numbers=arrays[f"{number}/numbers"],
        amounts=arrays[f"{number}/amounts"],
    )
