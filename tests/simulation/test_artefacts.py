"""What a private run leaves behind is known thing by thing, is its owner's alone, and has no example in it."""

import builtins
import os
import stat
import tempfile
from collections.abc import Iterator
from fnmatch import fnmatchcase
from pathlib import Path

import jax
import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import RunError
from fairyring.records.round_record import LostInNoise, Means
from fairyring.rounds.artefacts import ARTEFACTS
from fairyring.rounds.means import TrainingMeans, training_means
from fairyring.rounds.spending import RunSpending
from fairyring.simulation import masked
from tests.simulation.artefact_walk import examples_of, found_in, names_in, rows_of
from tests.simulation.kept_runs import CENTRAL, COINS, OTHERS, PEOPLE, TURNS, Kept
from tests.simulation.private_runs import compiled_once, plan, run, same_state

RUNS = ("audited", "dropouts", "states", "kept", "spent", "stopped", "sampled", "silos")


@pytest.fixture(scope="module", autouse=True)
def _compiled_once() -> Iterator[None]:
    with compiled_once():
        yield


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def modes(folder: Path) -> set[tuple[bool, int]]:
    """Of a folder and all in it: whether it is a folder, and its mode."""
    return {(path.is_dir(), mode(path)) for path in [folder, *folder.rglob("*")]}


OWNERS = {(True, 0o700), (False, 0o600)}


# -- the table ------------------------------------------------------------------------------------------------


def test_every_file_key_and_array_is_named_by_one_row(private_runs: dict[str, Kept]) -> None:
    assert set(RUNS) == set(private_runs)
    unknown, ambiguous, seen = set(), set(), set()
    for made in private_runs.values():
        names = list(names_in(made.folder))
        assert len(names) > 50
        for name in names:
            rows = rows_of(name)
            seen |= {row.what for row in rows}
            unknown |= set() if rows else {name}
            ambiguous |= {name} if len(rows) > 1 else set()
    assert not unknown
    assert not ambiguous
    # What is only there while a run lasts, or when it crashes, is looked for below.
    assert {row.what for row in ARTEFACTS} - seen == {"what a crash leaves"}
    everything = [name for made in private_runs.values() for name in names_in(made.folder)]
    idle = {
        pattern
        for row in ARTEFACTS
        for pattern in row.names
        if not any(fnmatchcase(name, pattern) for name in everything)
    }
    assert idle <= {
        "*.part",
        "metrics.jsonl: aborted.*",
        "metrics.jsonl: at_bound",
        "metrics.jsonl: clipped",
        "metrics.jsonl: update_norm",
        "ledger.sqlite-wal",
        "ledger.sqlite-shm",
    }


def test_a_name_that_is_new_has_no_row(tmp_path: Path) -> None:
    """The test above would fail on it."""
    for name in (
        "gradients.npy",
        "metrics.jsonl: median_loss",
        "run.json: privacy.clients",
        "checkpoints/x: w",
    ):
        assert not rows_of(name)
    for row in ARTEFACTS:
        assert row.why.endswith(".")
        assert not set("*") & {pattern[0] for pattern in row.names if pattern != "*.part"}


def test_a_run_names_what_lies_outside_of_its_promise(private_runs: dict[str, Kept]) -> None:
    later = {"the report, once it is written", "audits"}
    for name, made in private_runs.items():
        told = {one["what"]: one for one in made.run.header["outside"]}
        found = {row.what for thing in names_in(made.folder) for row in rows_of(thing) if not row.inside}
        assert found <= set(told), name
        assert set(told) - later - {"what a crash leaves"} <= found, name
        title = next(
            a for a in made.run.header["assumptions"] if a["title"] == "What the run's own record tells"
        )
        assert all(what in title["text"] for what in told)
        assert all(one["why"] and one["names"] for one in told.values())
    assert "outside" not in run(PLAIN, 1, PEOPLE).header


PLAIN = fr.Plan(TURNS.task, local=TURNS.local, cohort=10, algorithm=fr.scaffold())


# -- who may read it ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RUNS)
def test_a_private_run_is_its_owners_alone(private_runs: dict[str, Kept], name: str) -> None:
    assert modes(private_runs[name].folder) == OWNERS


def test_it_is_so_at_every_moment_and_nothing_is_closed_only_afterwards(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a run under the masked protocol, in a folder that was there and open, with its server's log on the disk."""
    folder, place = tmp_path / "run", tmp_path / "temporary"
    place.mkdir()
    folder.mkdir(mode=0o777)
    folder.chmod(0o777)
    real_open, real_chmod, real_contribute = builtins.open, os.chmod, masked._Round._contribute
    real_replace = os.replace
    seen: set[tuple[bool, int]] = set()
    logs: set[str] = set()

    def opened(file, mode="r", *rest, **more):
        if isinstance(file, str | os.PathLike) and folder in Path(file).parents and set(mode) & set("wax"):
            assert more.get("opener") is not None or Path(file).exists(), f"{file} is made for anybody"
        return real_open(file, mode, *rest, **more)

    def closed(path, how, **more):
        assert Path(path) == folder, f"{path} was open to others before"
        assert not list(folder.iterdir())
        return real_chmod(path, how, **more)

    def contribute(*given):
        logs.update(path.name for path in place.rglob("*"))
        seen.update(modes(next(place.iterdir())))
        return real_contribute(*given)

    def replaced(before, after, **more):
        assert mode(Path(before)) == 0o600  # what a crash would leave
        return real_replace(before, after, **more)

    monkeypatch.setattr(os, "replace", replaced)
    monkeypatch.setattr(builtins, "open", opened)
    monkeypatch.setattr(os, "chmod", closed)
    monkeypatch.setattr(masked._Round, "_contribute", contribute)
    monkeypatch.setattr(masked, "HELD_BYTES", 0)
    monkeypatch.setattr(tempfile, "tempdir", str(place))
    before = os.umask(0)
    try:
        run(
            CENTRAL,
            2,
            PEOPLE,
            run=folder,
            secure_sum="protocol",
            checkpoint_every=1,
            entropy=None,
            on_round=lambda record: seen.update(modes(folder)),
        )
    finally:
        os.umask(before)
    assert seen == OWNERS
    assert {"server.sqlite", "server.sqlite-wal"} <= logs
    assert not list(place.iterdir())


def test_a_resumed_or_saved_run_is_closed_too_and_a_run_without_a_promise_is_as_it_was(
    tmp_path: Path,
) -> None:
    before = os.umask(0o022)
    try:
        run(COINS, 1, PEOPLE, run=tmp_path / "run")
        (tmp_path / "run").chmod(0o755)  # as a copy of it is
        run(COINS, 2, PEOPLE, run=tmp_path / "run", resume=True)
        assert modes(tmp_path / "run") == OWNERS
        run(COINS, 1, PEOPLE).save(tmp_path / "saved")
        assert modes(tmp_path / "saved") == OWNERS
        run(PLAIN, 1, PEOPLE, run=tmp_path / "open", entropy=None)
        assert modes(tmp_path / "open") == {(True, 0o755), (False, 0o644)}
    finally:
        os.umask(before)


# -- examples -------------------------------------------------------------------------------------------------


def test_no_example_is_in_what_a_private_run_leaves(private_runs: dict[str, Kept]) -> None:
    mine, others = examples_of(PEOPLE), examples_of(OTHERS)
    for name, made in private_runs.items():
        found = {
            path.relative_to(made.folder).as_posix(): found_in(
                path.read_bytes(), np.concatenate([mine, others])
            )
            for path in made.folder.rglob("*")
            if path.is_file()
        }
        hit = {path for path, count in found.items() if count}
        # What was asked for, and is said to be outside: it shows that the attack works, too.
        asked = {
            "audited": {"audit.safetensors"},
            "kept": {"clients/states.bin"},
            "stopped": {"clients/states.bin"},
        }
        assert hit == asked.get(name, set()), name


def test_while_it_runs_examples_are_in_files_of_its_owner_alone(tmp_path: Path) -> None:
    """20 of the 40 clients have one example: SCAFFOLD's state of each is that example, scaled."""
    folder, mine, counts = tmp_path / "run", examples_of(PEOPLE), []

    def look(record: dict) -> None:
        found = {path: found_in(path.read_bytes(), mine) for path in folder.rglob("*") if path.is_file()}
        hit = {path: count for path, count in found.items() if count}
        assert all(path.parent.name == "clients" and mode(path) == 0o600 for path in hit)
        counts.append(max(hit.values(), default=0))

    before = os.umask(0)
    try:
        made = run(TURNS, 4, PEOPLE, run=folder, checkpoint_every=1, entropy=None, on_round=look)
    finally:
        os.umask(before)
    assert max(counts) >= 15
    assert not (folder / "clients").exists()
    assert not any(found_in(path.read_bytes(), mine) for path in folder.rglob("*") if path.is_file())
    assert made.header["privacy"]["spent"] < 2.0


# -- states of clients ----------------------------------------------------------------------------------------


def test_states_go_when_the_run_is_over_and_not_before(private_runs: dict[str, Kept]) -> None:
    there = {name: (made.folder / "clients").exists() for name, made in private_runs.items()}
    secret = {name: (made.folder / "noise.key").exists() for name, made in private_runs.items()}
    assert [name for name, kept in there.items() if kept] == ["kept", "stopped", "silos"]
    assert [name for name, kept in secret.items() if kept] == ["stopped"]
    assert private_runs["spent"].run.header["stopped_by"] == "budget"
    assert private_runs["stopped"].run.header["status"] == "stopped"


def test_a_run_whose_states_are_gone_does_not_go_on_from_first_ones(tmp_path: Path) -> None:
    folder = tmp_path / "run"
    done = run(TURNS, 2, PEOPLE, run=folder, checkpoint_every=1)
    with pytest.raises(RunError, match=r"states of its clients are gone.*keep_client_states=True"):
        run(TURNS, 3, PEOPLE, run=folder, resume=True)
    assert not (folder / "clients").exists()
    again = run(TURNS, 2, PEOPLE, run=folder, resume=True)  # nothing is left to do: nothing is missing
    assert same_state(again, done)
    assert not (folder / "clients").exists()
    run(TURNS, 2, PEOPLE).save(tmp_path / "saved")
    with pytest.raises(RunError, match="states of its clients are gone"):
        run(TURNS, 3, PEOPLE, run=tmp_path / "saved", resume=True)


def test_a_run_that_keeps_its_states_goes_on_as_one_that_never_stopped(tmp_path: Path) -> None:
    options = {"keep_client_states": True, "checkpoint_every": 1}
    whole = run(TURNS, 5, PEOPLE, run=tmp_path / "whole", **options)
    run(TURNS, 2, PEOPLE, run=tmp_path / "run", **options)
    resumed = run(TURNS, 5, PEOPLE, run=tmp_path / "run", resume=True)
    assert same_state(resumed, whole)
    assert not (tmp_path / "run" / "clients").exists()
    assert (tmp_path / "whole" / "clients" / "states.bin").is_file()


def test_states_without_a_promise_stay(tmp_path: Path) -> None:
    run(PLAIN, 2, PEOPLE, run=tmp_path / "run", entropy=None)
    assert (tmp_path / "run" / "clients" / "states.bin").is_file()
    run(PLAIN, 3, PEOPLE, run=tmp_path / "run", resume=True, entropy=None)
    for path in (tmp_path / "run" / "clients").iterdir():
        path.unlink()
    with pytest.raises(RunError, match=r"Restore them from a copy"):
        run(PLAIN, 4, PEOPLE, run=tmp_path / "run", resume=True, entropy=None)


# -- noise in the means that are recorded ---------------------------------------------------------------------


@pytest.mark.parametrize(
    "given",
    [
        plan(fr.gaussian_noise(2.0), bits=None),
        plan(fr.distributed_noise("skellam", 2.0, shares=6), bits=22),
        plan(fr.gaussian_noise(2.0), bits=None, cohort=fr.cohort.poisson(0.25, maximum=33)),
    ],
    ids=["central", "distributed", "sampled"],
)
def test_the_noise_in_a_mean_is_as_wide_as_is_said(given: fr.Plan) -> None:
    """Decoded sums of nobody's values with drawn noise in them: nothing of the formula is used."""
    noise = given.bound.spec.noise
    assert noise is not None
    length, clients, dice = given.message_shape.vector.shape[0], 10, np.random.default_rng(3)
    vector = np.zeros((4000, length))
    vector[:, : noise.coordinates] = dice.normal(0, noise.sigma, (4000, noise.coordinates))
    counted = noise.auxiliaries[0] == 0.0
    if counted:
        vector[:, noise.coordinates :] = clients
    total = given.message_shape._replace(
        vector=np.rint(vector).astype(np.int32), auxiliary=np.zeros((4000, 0), np.float32)
    )
    found = np.asarray(jax.vmap(lambda one: given.bound.decode(one, jax.random.key(0)))(total).auxiliary)
    said = np.array(noise.auxiliary_std(1.0))
    swing = (found[:, 1:3] - np.array([2.5, 0.5])) * found[
        :, :1
    ]  # about the middle of the range, before the division
    assert np.std(swing, axis=0) == pytest.approx(said[:2], rel=0.06)
    if counted:
        assert np.std(found[:, 1:3], axis=0) == pytest.approx(noise.auxiliary_std(10.0)[:2], rel=0.06)


def test_what_is_lost_in_noise_is_named_and_what_is_not_is_not(private_runs: dict[str, Kept]) -> None:
    def of_a_round(multiplier: float) -> TrainingMeans:
        given = plan(fr.gaussian_noise(multiplier), bits=None)
        spending = RunSpending(given, None)
        auxiliary = np.array([10.0, 7.0, -0.2], np.float32)
        found = training_means(given, auxiliary, 10, 10, spending, released=True)
        assert found.means == Means(5.0, {"accuracy": 0.0})  # cut to what they can be
        assert found.noise_std is not None
        assert found.noise_std.metrics["accuracy"] == pytest.approx(found.noise_std.loss / 5.0)
        without = training_means(given, auxiliary, 10, 10, spending, released=False)
        assert without[1:] == (None, None, None)
        assert np.isnan(list(without.means.columns().values())).all()
        spending.close(finished=True)
        return found

    once = of_a_round(1.0).noise_std
    assert once is not None
    loud, quiet = (of_a_round(part / once.metrics["accuracy"]) for part in (0.29, 0.28))
    assert loud.lost == LostInNoise(True, {"accuracy": True})
    assert quiet.lost is None
    for name in ("audited", "dropouts", "sampled"):
        for record in private_runs[name].run.records:
            if record.aborted is None:
                assert record.noise_std is not None
                assert record.noise_std.metrics.keys() == {"accuracy"}
    assert run(PLAIN, 1, PEOPLE, entropy=None).records[0].noise_std is None
