"""A run as one file: settings, seed, the state of each world and its history. A run continues from it to the same bits.

The file is safetensors: it holds arrays and plain values only, and reading it executes nothing. A custom sense, event or
policy is stored by name and marked as custom; to read such a run, pass its settings. A digest covers all arrays and all
plain values.
"""

import dataclasses
import hashlib
import os
import platform
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import jax
import msgspec
import numpy as np

from fairyring._version import __version__
from fairyring.core.errors import EcologyError, RunDamaged, RunError, RunMismatch, StorageError
from fairyring.core.files import replace_file
from fairyring.core.tensors import flatten_state, read_tensors, restore_state, tensors
from fairyring.ecology.history.lineage import Lineage
from fairyring.ecology.history.running import ADDRESSES, WorldRun
from fairyring.ecology.world import (
    AMOUNTS,
    KINDS,
    NUMBERS,
    State,
    World,
    empty,
    events,
    kind_of,
    policies,
    senses,
)

FORMAT = 2
# Columns whose stored name differs from the one in memory. Files keep the first name, so that older runs can be read.
_STORED_COLUMNS = {"immigrants": "newcomers"}
_SENSES = {sense.name: sense for sense in (senses.LEVEL, senses.CHANGE, senses.SIGNAL)}
_EVENTS = {event.name: event for event in (*events.STANDARD, *events.OPTIONAL)}
_POLICIES = {
    policy.name: policy
    for policy in (
        policies.tables(),
        *(policies.q_learning(kind) for kind in ("rewards", "retention", "evolved values", "lamarck")),
    )
}


_Address = Annotated[int, msgspec.Meta(ge=0, lt=ADDRESSES)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_EXPECTED = "the whole file of an ecology's run"
_RESTORE = "Restore it from a copy, or make the run again."


@dataclass(frozen=True)
class StoredRun:
    """The contents of a run file: some worlds with their histories. Attributes as in `Evolution`."""

    settings: World
    seed: int
    numbers: tuple[int, ...]
    worlds: tuple[WorldRun, ...]
    seconds: float = 0.0
    compiling: float = 0.0

    @property
    def steps(self) -> int:
        """Steps that every world has made at least."""
        return min(world.steps for world in self.worlds)


class _Facts(msgspec.Struct, forbid_unknown_fields=True):
    """The plain values of a file."""

    format: int
    kind: Literal["v1", "v2"]
    settings: dict[str, Any]
    own: list[str]
    seed: _Address
    worlds: Annotated[list[_Address], msgspec.Meta(min_length=1)]
    seconds: _Seconds
    compiling: _Seconds
    numbers: list[str]
    amounts: list[str]
    versions: dict[str, str]
    machine: str
    sha256: str


def make_folder(path: Path) -> Path:
    """Make a folder and those above it, if they are missing.

    Raises:
        StorageError: it cannot be made.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StorageError(
            str(path),
            given=error.strerror or type(error).__name__,
            expected="a folder that can be made",
            do="Choose another place.",
        ) from error
    return path


def refuse_existing(path: Path) -> None:
    """Raise `RunError` if there is something at `path`."""
    if path.exists():
        raise RunError(
            str(path),
            given="an existing file",
            expected="a new one",
            do="Choose another name, or continue that run.",
        )


def refuse_other(run: StoredRun, path: Path) -> None:
    """Refuse to overwrite anything but an earlier version of the same run.

    Raises:
        RunError: the file at `path` is not a run, is another run, or has more steps.
    """
    if not path.exists():
        return
    try:
        stored = read_run(path, run.settings)
    except RunError as error:
        raise _in_the_way(path, f"an existing file that is not this run ({error.given})") from error
    if (stored.seed, stored.numbers) != (run.seed, run.numbers):
        raise _in_the_way(path, f"another run: seed {stored.seed}, worlds {_listed(stored.numbers)}")
    if any(old.steps > new.steps for old, new in zip(stored.worlds, run.worlds, strict=True)):
        raise RunError(
            str(path),
            given=f"this run with more steps, {stored.steps}",
            expected=f"{run.steps} at most, as this one has made",
            do="Continue that one, load(path), or choose another name.",
        )


def _in_the_way(path: Path, given: str) -> RunError:
    return RunError(str(path), given=given, expected="a new file, or this run's", do="Choose another name.")


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers of worlds, abbreviated if there are many."""
    return ", ".join(map(str, numbers if len(numbers) < 5 else (numbers[0], numbers[1], "…", numbers[-1])))


def save(run: StoredRun, path: str | os.PathLike[str]) -> None:
    """Write a run atomically.

    Raises:
        StorageError: it cannot be written; an older file at `path` stays as it was.
    """
    facts = {
        "format": FORMAT,
        "kind": kind_of(run.settings),
        "settings": run.settings.described(),
        "own": custom_parts(run.settings),
        "seed": run.seed,
        "worlds": list(run.numbers),
        "seconds": run.seconds,
        "compiling": run.compiling,
        "numbers": _stored(NUMBERS),
        "amounts": _stored(AMOUNTS),
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
    facts["sha256"] = _digest(facts, arrays)
    replace_file(Path(path), tensors(arrays, facts))


def read_run(path: str | os.PathLike[str], settings: World | None = None) -> StoredRun:
    """Read a run file; arguments and errors as in `load`."""
    path = Path(path)
    values, arrays = read_tensors(path, expected=_EXPECTED, do=_RESTORE)
    facts = _facts(path, values, arrays)
    for name, ours in (("numbers", _stored(NUMBERS)), ("amounts", _stored(AMOUNTS))):
        theirs = tuple(getattr(facts, name))
        if theirs != ours:
            odd = next((of for of in (*theirs, *ours) if of not in ours or of not in theirs), "their order")
            raise _other_version(
                path, f"a history whose {name} differ in {odd!r}", f"{', '.join(ours)} of each step"
            )
    try:
        stored_settings = settings_of(path, facts.kind, facts.settings, facts.own, settings)
    except TypeError as error:
        raise RunDamaged(str(path), given=f"settings: {error}", expected=_EXPECTED, do=_RESTORE) from error
    expected = {f"{number}/{name}" for number in facts.worlds for name in _arrays_of(stored_settings)}
    odd = sorted(expected ^ arrays.keys())
    if odd:
        given = f"no array {odd[0]!r}" if odd[0] in expected else f"an array {odd[0]!r}, which no run has"
        raise RunDamaged(str(path), given=given, expected=_EXPECTED, do=_RESTORE)
    worlds = tuple(_world(path, stored_settings, arrays, number) for number in facts.worlds)
    return StoredRun(stored_settings, facts.seed, tuple(facts.worlds), worlds, facts.seconds, facts.compiling)


def _stored(columns: tuple[str, ...]) -> tuple[str, ...]:
    """Names of columns as they stand in a file."""
    return tuple(_STORED_COLUMNS.get(name, name) for name in columns)


def _facts(path: Path, values: Any, arrays: dict[str, np.ndarray]) -> _Facts:
    """The plain values of a file, after checking that this version can read them and that nothing was changed."""
    if isinstance(values, dict) and isinstance(values.get("format"), int) and values["format"] != FORMAT:
        raise _other_version(path, f"a run file of format {values['format']}", f"format {FORMAT}")
    try:
        facts = msgspec.convert(values, _Facts)
    except msgspec.ValidationError as error:
        raise RunDamaged(str(path), given=str(error), expected=_EXPECTED, do=_RESTORE) from error
    if facts.sha256 != _digest(values, arrays):
        raise RunDamaged(
            str(path),
            given="settings, a seed or arrays that are not those that were saved",
            expected="a file nobody changed",
            do=_RESTORE,
        )
    return facts


def _other_version(path: Path, given: str, expected: str) -> RunMismatch:
    return RunMismatch(
        str(path),
        given=f"{given}, made by another version of fairyring",
        expected=expected,
        do="Run it again with the settings and seed in the file, or read it with that version.",
    )


def fingerprint(run: StoredRun) -> str:
    """SHA-256 of a run's settings, seed and final states; equal for equal runs, wherever and in however many sittings."""
    digest = hashlib.sha256(
        msgspec.json.encode([run.settings.described(), run.seed, list(run.numbers)], order="sorted")
    )
    for world in run.worlds:
        for name, rows in flatten_state(world.state).items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _digest(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all arrays and of all plain values except the digest itself."""
    values = {name: value for name, value in facts.items() if name != "sha256"}
    digest = hashlib.sha256(msgspec.json.encode(values, order="sorted"))
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def custom_parts(settings: World) -> list[str]:
    """The parts of the settings that are not standard, whatever their names: ``["sense 'energy'", "policy 'tables'"]``."""
    kind = type(settings)
    parts = [] if kind in KINDS.values() else [f"world {kind.__name__!r}"]
    parts += [f"sense {of.name!r}" for of in settings.senses if _SENSES.get(of.name) != of]
    parts += [f"event {of.name!r}" for of in settings.events if _EVENTS.get(of.name) != of]
    policy = settings.policy
    return parts + ([f"policy {policy.name!r}"] if _POLICIES.get(policy.name) != policy else [])


def settings_of(
    path: Path, kind: str, described: dict[str, Any], custom: Sequence[str] = (), given: World | None = None
) -> World:
    """Settings from their description.

    Args:
        path: of the file they are from.
        kind: "v1" or "v2".
        described: as `World.described` gave it.
        custom: as `custom_parts` gave it.
        given: the same settings, required if there are custom parts; None to make them from the description.

    Raises:
        RunMismatch: `given` differ or are required, or another version of fairyring described the settings.
        RunDamaged: invalid values.
    """
    if given is not None:
        _refuse_others(path, kind, described, custom, given)
        return given
    if kind not in KINDS:
        raise RunDamaged(str(path), given=f"a world of kind {kind!r}", expected="v1 or v2", do=_RESTORE)
    standard = {"senses": _SENSES, "rewarded": _EVENTS}
    unknown = [*custom]
    for field, of in standard.items():
        unknown += [repr(name) for name in described.get(field, ()) if name not in of]
    if described.get("policy", "tables") not in _POLICIES:
        unknown.append(repr(described["policy"]))
    if unknown:
        raise RunMismatch(
            str(path),
            given=f"{unknown[0]}, which is not part of fairyring",
            expected="standard senses, events and policy, or the settings",
            do="Pass the settings of the run: load(path, settings).",
        )
    known = [f.name for f in dataclasses.fields(KINDS[kind])]
    odd = sorted(set(known) ^ described.keys())
    if odd:
        what = f"settings without {odd[0]!r}" if odd[0] in known else f"a setting {odd[0]!r}"
        raise _other_version(path, what, f"the fields of {KINDS[kind].__name__}")
    values: dict[str, Any] = described | {"policy": _POLICIES[described["policy"]]}
    values |= {
        field: tuple(of[name] for name in described[field])
        for field, of in standard.items()
        if field in described
    }
    try:
        return KINDS[kind](**values)
    except EcologyError as error:
        raise RunDamaged(str(path), given=str(error), expected="valid settings", do=_RESTORE) from error


def _refuse_others(
    path: Path, kind: str, described: dict[str, Any], custom: Sequence[str], given: World
) -> None:
    """Refuse settings that differ from those in a file, and name the first that does."""
    now = msgspec.json.decode(msgspec.json.encode(given.described()))
    odd = next((name for name in [*described, *now] if described.get(name) != now.get(name)), None)
    if kind != kind_of(given):
        ours, theirs = f"settings of a world of kind {kind_of(given)}", f"those of the run, of kind {kind}"
    elif odd is not None:
        ours, theirs = f"settings with {odd} {now.get(odd)!r}", f"those of the run, {described.get(odd)!r}"
    elif list(custom) != custom_parts(given):
        ours = f"settings with these custom parts: {', '.join(custom_parts(given)) or 'none'}"
        theirs = f"those of the run, with these: {', '.join(custom) or 'none'}"
    else:
        return
    raise RunMismatch(str(path), given=ours, expected=theirs, do="Pass the settings of the run.")


def _arrays_of(settings: World) -> list[str]:
    """The names of a world's arrays in a file."""
    state = [f"state/{name}" for name in flatten_state(empty(settings, settings.capacity))]
    return [*state, *(f"lineage/{f.name}" for f in dataclasses.fields(Lineage)), "key", "numbers", "amounts"]


def _world(path: Path, settings: World, arrays: dict[str, np.ndarray], number: int) -> WorldRun:
    def under(part: str) -> dict[str, np.ndarray]:
        prefix = f"{number}/{part}"
        return {name.removeprefix(prefix): rows for name, rows in arrays.items() if name.startswith(prefix)}

    try:
        state: State = restore_state(empty(settings, settings.capacity), under("state/"))
    except (
        RunMismatch
    ) as error:  # happens only if a custom sense or policy differs from the run's under the same name
        raise RunMismatch(
            str(path),
            given=f"settings under which world {number} has another form: {error.given}",
            expected="those of the run",
            do="Pass the settings of the run.",
        ) from error
    rows, tree = under(""), Lineage(**under("lineage/"))
    steps, individuals = len(rows["numbers"]), len(tree)
    forms = {
        "key": ((2,), np.uint32),
        "numbers": ((steps, len(NUMBERS)), np.int32),
        "amounts": ((steps, len(AMOUNTS)), np.float32),
        "lineage/holder": ((settings.capacity,), np.int32),
        **{f"lineage/{name}": ((individuals,), np.int32) for name in ("parent", "born", "died")},
    }
    for name, form in forms.items():
        if (rows[name].shape, rows[name].dtype) != form:
            given = f"world {number} with {name} as {rows[name].dtype} {list(rows[name].shape)}"
            raise RunDamaged(
                str(path), given=given, expected=f"{form[1].__name__} {list(form[0])}", do=_RESTORE
            )
    return WorldRun(
        key=rows["key"], state=state, lineage=tree, numbers=rows["numbers"], amounts=rows["amounts"]
    )
