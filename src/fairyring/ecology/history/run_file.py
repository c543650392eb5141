"""A run as one file: settings, seed, where every world is, and its history. From it a run goes on to the same bits.

The file is safetensors, so it holds arrays and plain values only and reading it runs nothing. A sense, event or policy
of one's own is in it by name, and marked as such; whoever reads such a run hands the settings in. A digest covers all
arrays and all plain values.
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
from fairyring.core.errors import EcologyError, RunDamaged, RunError, RunMismatch
from fairyring.core.files import replace_file
from fairyring.core.tensors import flatten_state, read_tensors, restore_state, tensors
from fairyring.ecology.history.lineage import Lineage
from fairyring.ecology.history.running import ADDRESSES, WorldRun
from fairyring.ecology.world import (
    AMOUNTS,
    NUMBERS,
    State,
    World,
    World1,
    World2,
    empty,
    events,
    policies,
    senses,
)

FORMAT = 2
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


_Address = Annotated[int, msgspec.Meta(ge=0, lt=ADDRESSES)]
_Seconds = Annotated[float, msgspec.Meta(ge=0)]
_WHOLE = "the whole file of an ecology's run"
_RESTORE = "Restore it from a copy, or make the run again."


@dataclass(frozen=True)
class Kept:
    """What a run's file holds: some worlds with their histories.

    Attributes: as of `Evolution`.
    """

    settings: World
    seed: int
    numbers: tuple[int, ...]
    worlds: tuple[WorldRun, ...]
    seconds: float = 0.0
    compiling: float = 0.0

    @property
    def steps(self) -> int:
        """Steps that every world has made."""
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


def kind_of(settings: World) -> str:
    """ "v1" or "v2", as the command line calls the worlds.

    Raises:
        EcologyError: neither.
    """
    for name, kind in _KINDS.items():
        if isinstance(settings, kind):
            return name
    raise EcologyError(
        "settings",
        given=f"a {type(settings).__name__}",
        expected="a World1 or a World2",
        do="Make one of them.",
    )


def refuse_existing(path: Path) -> None:
    """Raise `RunError` if there is something at `path`."""
    if path.exists():
        raise RunError(
            str(path),
            given="a file that is there already",
            expected="a new one",
            do="Choose another name, or go on with that run.",
        )


def refuse_other(run: Kept, path: Path) -> None:
    """Refuse to put `run` in the place of anything but the same run, as far as it is now or less far.

    Raises:
        RunError: what is there is no run, is another one, or has more steps.
    """
    if not path.exists():
        return
    try:
        found = read_run(path, run.settings)
    except RunError as error:
        raise _in_the_way(path, f"a file that is there already and not this run ({error.given})") from error
    if (found.seed, found.numbers) != (run.seed, run.numbers):
        raise _in_the_way(path, f"another run: seed {found.seed}, worlds {_listed(found.numbers)}")
    if any(kept.steps > now.steps for kept, now in zip(found.worlds, run.worlds, strict=True)):
        raise RunError(
            str(path),
            given=f"this run with more steps, {found.steps}",
            expected=f"{run.steps} at most, as this one has made",
            do="Go on with that one, load(path), or choose another name.",
        )


def _in_the_way(path: Path, given: str) -> RunError:
    return RunError(str(path), given=given, expected="a new file, or this run's", do="Choose another name.")


def _listed(numbers: tuple[int, ...]) -> str:
    """Numbers of worlds, those of many shortened."""
    return ", ".join(map(str, numbers if len(numbers) < 5 else (numbers[0], numbers[1], "…", numbers[-1])))


def save(run: Kept, path: str | os.PathLike[str]) -> None:
    """Write a run, whole or not at all.

    Raises:
        StorageError: it cannot be written; what was there before is as it was.
    """
    facts = {
        "format": FORMAT,
        "kind": kind_of(run.settings),
        "settings": run.settings.described(),
        "own": own(run.settings),
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
    facts["sha256"] = _digest(facts, arrays)
    replace_file(Path(path), tensors(arrays, facts))


def read_run(path: str | os.PathLike[str], settings: World | None = None) -> Kept:
    """Read a run's file; arguments and errors as of `load`."""
    path = Path(path)
    told, arrays = read_tensors(path, expected=_WHOLE, do=_RESTORE)
    facts = _facts(path, told, arrays)
    for name, ours in (("numbers", NUMBERS), ("amounts", AMOUNTS)):
        theirs = tuple(getattr(facts, name))
        if theirs != ours:
            odd = next((of for of in (*theirs, *ours) if of not in ours or of not in theirs), "their order")
            raise _older(path, f"a history whose {name} differ in {odd!r}", f"{', '.join(ours)} of each step")
    try:
        found = settings_of(path, facts.kind, facts.settings, facts.own, settings)
    except TypeError as error:
        raise RunDamaged(str(path), given=f"settings: {error}", expected=_WHOLE, do=_RESTORE) from error
    expected = {f"{number}/{name}" for number in facts.worlds for name in _arrays_of(found)}
    odd = sorted(expected ^ arrays.keys())
    if odd:
        given = f"no array {odd[0]!r}" if odd[0] in expected else f"an array {odd[0]!r}, which no run has"
        raise RunDamaged(str(path), given=given, expected=_WHOLE, do=_RESTORE)
    worlds = tuple(_world(path, found, arrays, number) for number in facts.worlds)
    return Kept(found, facts.seed, tuple(facts.worlds), worlds, facts.seconds, facts.compiling)


def _facts(path: Path, told: Any, arrays: dict[str, np.ndarray]) -> _Facts:
    """The plain values of a file, once it is clear that this version wrote them and nobody changed anything."""
    if isinstance(told, dict) and isinstance(told.get("format"), int) and told["format"] != FORMAT:
        raise _older(path, f"a run file of format {told['format']}", f"format {FORMAT}")
    try:
        facts = msgspec.convert(told, _Facts)
    except msgspec.ValidationError as error:
        raise RunDamaged(str(path), given=str(error), expected=_WHOLE, do=_RESTORE) from error
    if facts.sha256 != _digest(told, arrays):
        raise RunDamaged(
            str(path),
            given="settings, a seed or arrays that are not those that were saved",
            expected="a file nobody changed",
            do=_RESTORE,
        )
    return facts


def _older(path: Path, given: str, expected: str) -> RunMismatch:
    return RunMismatch(
        str(path),
        given=f"{given}, made by another version of fairyring",
        expected=expected,
        do="Run it again, with the settings and seed that are in the file, or read it with that version.",
    )


def fingerprint(run: Kept) -> str:
    """SHA-256 of a run's settings, seed and final states: the same for the same run, made anywhere in any sittings."""
    digest = hashlib.sha256(
        msgspec.json.encode([run.settings.described(), run.seed, list(run.numbers)], order="sorted")
    )
    for world in run.worlds:
        for name, rows in flatten_state(world.state).items():
            digest.update(name.encode())
            digest.update(np.ascontiguousarray(rows).tobytes())
    return digest.hexdigest()


def _digest(facts: dict[str, Any], arrays: dict[str, np.ndarray]) -> str:
    """SHA-256 of all plain values but this one, and of all arrays."""
    told = {name: value for name, value in facts.items() if name != "sha256"}
    digest = hashlib.sha256(msgspec.json.encode(told, order="sorted"))
    for name in sorted(arrays):
        digest.update(f"{name} {arrays[name].dtype} {arrays[name].shape}".encode())
        digest.update(np.ascontiguousarray(arrays[name]).tobytes())
    return digest.hexdigest()


def own(settings: World) -> list[str]:
    """What of the settings is not standard, whatever it is called: ``["sense 'energy'", "policy 'tables'"]``."""
    kind = type(settings)
    found = [] if kind in _KINDS.values() else [f"world {kind.__name__!r}"]
    found += [f"sense {of.name!r}" for of in settings.senses if _SENSES.get(of.name) != of]
    found += [f"event {of.name!r}" for of in settings.events if _EVENTS.get(of.name) != of]
    policy = settings.policy
    return found + ([f"policy {policy.name!r}"] if _POLICIES.get(policy.name) != policy else [])


def settings_of(
    path: Path, kind: str, told: dict[str, Any], owned: Sequence[str] = (), given: World | None = None
) -> World:
    """Settings from what `World.described` told of them.

    Args:
        path: of the file they are from.
        kind: "v1" or "v2".
        told: of them.
        owned: what `own` found in them.
        given: the same settings, which are needed if it found anything; None: they are made from what was told.

    Raises:
        RunMismatch: `given` are others or are needed, or another version of fairyring told of them.
        RunDamaged: values that are none.
    """
    if given is not None:
        _refuse_others(path, kind, told, owned, given)
        return given
    if kind not in _KINDS:
        raise RunDamaged(str(path), given=f"a world of kind {kind!r}", expected="v1 or v2", do=_RESTORE)
    standard = {"senses": _SENSES, "rewarded": _EVENTS}
    strange = [*owned]
    for field, of in standard.items():
        strange += [repr(name) for name in told.get(field, ()) if name not in of]
    if told.get("policy", "tables") not in _POLICIES:
        strange.append(repr(told["policy"]))
    if strange:
        raise RunMismatch(
            str(path),
            given=f"{strange[0]}, which is not one of ours",
            expected="standard senses, events and policy, or the settings",
            do="Hand in the settings the run was made with: load(path, settings).",
        )
    known = [f.name for f in dataclasses.fields(_KINDS[kind])]
    odd = sorted(set(known) ^ told.keys())
    if odd:
        what = f"settings without {odd[0]!r}" if odd[0] in known else f"a setting {odd[0]!r}"
        raise _older(path, what, f"the fields of {_KINDS[kind].__name__}")
    values: dict[str, Any] = told | {"policy": _POLICIES[told["policy"]]}
    values |= {
        field: tuple(of[name] for name in told[field]) for field, of in standard.items() if field in told
    }
    try:
        return _KINDS[kind](**values)
    except EcologyError as error:
        raise RunDamaged(str(path), given=str(error), expected="valid settings", do=_RESTORE) from error


def _refuse_others(path: Path, kind: str, told: dict[str, Any], owned: Sequence[str], given: World) -> None:
    """Refuse settings that are not those that a file tells of, by the first that differs."""
    now = msgspec.json.decode(msgspec.json.encode(given.described()))
    odd = next((name for name in [*told, *now] if told.get(name) != now.get(name)), None)
    if kind != kind_of(given):
        ours, theirs = f"settings of a world of kind {kind_of(given)}", f"those of the run, of kind {kind}"
    elif odd is not None:
        ours, theirs = f"settings with {odd} {now.get(odd)!r}", f"those of the run, {told.get(odd)!r}"
    elif list(owned) != own(given):
        ours = f"settings with {', '.join(own(given)) or 'nothing'} of one's own"
        theirs = f"those of the run, with {', '.join(owned) or 'nothing'} of one's own"
    else:
        return
    raise RunMismatch(
        str(path), given=ours, expected=theirs, do="Hand in the settings the run was made with."
    )


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
    except RunMismatch as error:  # it can be so only where a sense or policy of the same name is another one
        raise RunMismatch(
            str(path),
            given=f"settings under which world {number} has another form: {error.given}",
            expected="those of the run",
            do="Hand in the settings the run was made with.",
        ) from error
    rows, tree = under(""), Lineage(**under("lineage/"))
    steps, people = len(rows["numbers"]), len(tree)
    forms = {
        "key": ((2,), np.uint32),
        "numbers": ((steps, len(NUMBERS)), np.int32),
        "amounts": ((steps, len(AMOUNTS)), np.float32),
        "lineage/holder": ((settings.capacity,), np.int32),
        **{f"lineage/{name}": ((people,), np.int32) for name in ("parent", "born", "died")},
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
