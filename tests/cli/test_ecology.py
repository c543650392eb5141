"""`fairyring ecology` on worlds so small that a run takes no time: what is kept, what is said, what is refused."""

import csv
import dataclasses
import importlib
import io
import json
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import partial
from itertools import pairwise
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest

from fairyring.cli import main
from fairyring.ecology import World1, World2, evolve, load, read_sweep, save
from fairyring.ecology.history.run_file import fingerprint
from fairyring.ecology.lab.assays import assay
from fairyring.ecology.world import NUMBERS
from tests.cli.documented import document

pytestmark = pytest.mark.optimised

COMMANDS = ["run", "sweep", "study", "assay", "jar", "video", "replay", "report"]
SMALL = {"width": 32, "capacity": 128, "founders": 32, "minimum": 8, "food_influx": 2.0, "sources": 2}
SET = [word for name, value in SMALL.items() for word in ("--set", f"{name}={value}")]
STEPS, SEED = 200, 3


class Made(NamedTuple):
    path: Path
    said: str


@pytest.fixture(scope="module", autouse=True)
def short_lab() -> Iterator[None]:
    """The lab as it is, for a shorter time: it is looked at step by step."""
    short = partial(assay, steps=150, settling=50)
    with pytest.MonkeyPatch.context() as patch:
        for name in ("controlled", "chemotaxis", "sweeping"):
            patch.setattr(
                importlib.import_module(f"fairyring.ecology.studies.{name}"),
                "assay",
                lambda *a, **k: short(*a, **{"individuals": 32} | k),
            )
        yield


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory, short_lab: None) -> Made:
    """A run of four worlds and what the command said of it."""
    path, said = tmp_path_factory.mktemp("runs") / "small.eco", io.StringIO()
    with pytest.MonkeyPatch.context() as patch, redirect_stdout(said):
        patch.setenv("COLUMNS", "200")
        words = [
            "ecology",
            "run",
            "v1",
            "--worlds",
            "4",
            "--steps",
            STEPS,
            "--seed",
            SEED,
            *SET,
            "--out",
            path,
            "--csv",
            path.with_suffix(".csv"),
        ]
        assert main([str(word) for word in words]) == 0
    return Made(path, said.getvalue())


def test_help_names_every_command(call: Callable) -> None:
    text = call("ecology", "--help").out
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", text)] == []
    for name in COMMANDS:
        assert f"fairyring ecology {name}" in call("ecology", name, "--help").out


def test_help_brings_in_neither_jax_nor_numpy() -> None:
    code = (
        "import sys; from fairyring.cli import main\n"
        "try: main(['ecology', 'run', '--help'])\n"
        "except SystemExit: pass\n"
        "print({'jax', 'numpy', 'scipy', 'fairyring.ecology'} & set(sys.modules) or 'light')"
    )
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.splitlines()[-1] == "light"


def test_a_run_is_that_of_the_room_and_its_controls_are_beside_it(made: Made) -> None:
    run = load(made.path)
    assert fingerprint(run) == fingerprint(evolve(World1(**SMALL), 4, STEPS, SEED))
    controls = load(made.path.with_name("small.scrambled.eco"))
    assert controls.settings.control == "scrambled"
    assert controls.steps == STEPS
    assert len(controls.numbers) == 4
    assert not set(controls.numbers) & set(run.numbers)


def test_a_line_a_world_with_its_decision(made: Made) -> None:
    run, text = load(made.path), made.said
    first, second = text.split("Chemotaxis evolved in")
    for number, world in zip(run.numbers, run.worlds, strict=True):
        late = world.numbers[:, 0].mean()
        line = re.search(rf"^{number} +{round(late)} +(\d+) +(\d+) +([a-z-]+(?: [a-z]+)?) *$", first, re.M)
        assert line, f"no line of world {number} in {first}"
        assert int(line[1]) == world.numbers[:, 3].sum()
        assert line[3] == ("propped" if int(line[1]) else "by itself")
        assert re.search(rf"^{number} .*(yes|no) *$", second, re.M)
    yes = len(re.findall(r" yes *$", second, re.M))
    assert second.startswith(f" {yes} of 4 worlds.")
    assert "a probability of 20.0 % at most" in second
    assert "The controls took" in second
    assert "rho " in first
    assert "live agent-steps/s" in second


def test_tables_are_written_as_csv(made: Made, call: Callable, tmp_path: Path) -> None:
    def read(path: Path) -> list[dict[str, str]]:
        with path.open(newline="") as file:
            return list(csv.DictReader(file))

    rows = read(made.path.with_suffix(".csv"))
    assert [row["world"] for row in rows] == ["0", "1", "2", "3"]
    assert sum(row["chemotaxis"] == "True" for row in rows) == len(re.findall(r" yes *$", made.said, re.M))
    assert f"Table: {made.path.with_suffix('.csv')}" in made.said
    called = call("ecology", "assay", made.path, "--seed", SEED, "--csv", tmp_path / "assay.csv", "--json")
    assert called.status == 0, called.err
    assert document("ecology assay", called.out)["table"] == str(tmp_path / "assay.csv")
    assert [row["index"] for row in read(tmp_path / "assay.csv")] == [row["index"] for row in rows]
    assert call("ecology", "zoo", "--csv", tmp_path / "zoo.csv").status == 0
    assert {row["name"] for row in read(tmp_path / "zoo.csv")} >= {"v1-0", "v2-5"}
    refused = call("ecology", "assay", made.path, "--csv", tmp_path / "nowhere" / "assay.csv")
    assert refused.status == 2
    assert "a folder that is there" in refused.err


def test_a_grid_of_worlds_is_swept(made: Made, call: Callable, tmp_path: Path) -> None:
    words = [
        "--grid",
        "food_influx=2,4",
        "--worlds",
        1,
        "--steps",
        60,
        *SET[:8],
        *SET[10:],
        "--run",
        tmp_path / "sweep",
    ]
    done = call("ecology", "sweep", "v1", *words, "--seeds", 2)
    assert done.status == 0, done.err
    found = read_sweep(tmp_path / "sweep")
    assert found.names == ["food_influx=2", "food_influx=4"]
    shown = done.out.rpartition("run 4/4")[2].splitlines()
    for labels, setting in zip(found.labels, range(2), strict=True):
        means = [found.mean(setting, column) for column in found.columns]
        row = [labels["food_influx"], "2/2", *(f"{mean.estimate:.4g}" for mean in means if mean is not None)]
        assert [line for line in shown if set(row) <= set(line.split())], f"no row of {row} in {shown}"
    assert "run 4/4" in done.out
    assert found.columns[:5] == ["population", "immigrants", "by_itself", "generations", "index"]
    assert sorted(path.name for path in (tmp_path / "sweep").glob("*.*")) == [
        "ecology-sweep.json", "runs.csv", "settings.csv",
    ]  # fmt: skip
    again = call("ecology", "sweep", "v1", *words, "--seeds", 3, "--resume", "--no-assay", "--json")
    assert again.status == 0, again.err
    told, found = document("ecology sweep", again.out), read_sweep(tmp_path / "sweep")
    assert len(told["runs"]) == len(found.runs) == 6
    assert [one["finished"] for one in told["settings"]] == [3, 3]
    means = [one["means"]["population"]["mean"] for one in told["settings"]]
    assert means == [row["population"] for row in found.table()]
    assert told["tables"] == {name: str(tmp_path / "sweep" / f"{name}.csv") for name in ("settings", "runs")}
    for words, told in (
        (["--grid", "food_influx"], "--grid food_influx=15,30,60"),
        ([], "Give --grid"),
        (["--grid", "food_influx=2", "--seeds", 0], "--seeds given 0"),
    ):
        refused = call("ecology", "sweep", "v1", *words, "--run", tmp_path / "other")
        assert refused.status == 2
        assert told in " ".join(re.sub("[│─╭╮]", " ", refused.err).split())
    assert not (tmp_path / "other").exists()


def test_a_study_that_will_have_no_report_says_so_first(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("fairyring.cli._ecology_study"), "conduct", stopped)
    said = [call("ecology", "study", "v1", "--quick", "--out", tmp_path / "study").out]
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    said.append(call("ecology", "study", "v1", "--quick", "--out", tmp_path / "study").out)
    assert ["fairyring[report]" in text for text in said] == [False, True]


def test_a_sweep_that_is_stopped_says_how_to_go_on(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("fairyring.ecology.studies.sweeping"), "evolve", stopped)
    called = call("ecology", "sweep", "v1", "--grid", "memory=2,4", "--run", tmp_path / "sweep")
    assert called.status == 130
    assert (
        f"Stopped after 0 runs. Give the same command with --run {tmp_path / 'sweep'} --resume" in called.out
    )
    assert read_sweep(tmp_path / "sweep").runs == []


@pytest.mark.parametrize(
    ("module", "extra"), [("uvicorn", "live"), ("PIL", "video"), ("imageio_ffmpeg", "video")]
)
def test_a_missing_extra_is_named_before_a_world_is_compiled(
    made: Made, call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, module: str, extra: str
) -> None:
    living = importlib.import_module("fairyring.ecology.watch.living")
    monkeypatch.setattr(living, "Worker", lambda *_: pytest.fail("a world was compiled first"))
    monkeypatch.setitem(sys.modules, module, None)
    film = tmp_path / ("film.gif" if module == "PIL" else "film.mp4")
    words = ["run", "v1", "--live", "--port", 0] if extra == "live" else ["video", made.path, film]
    called = call("ecology", *words)
    assert called.status == 2
    assert f"fairyring[{extra}]" in called.err
    assert list(tmp_path.iterdir()) == []


def test_a_run_is_not_made_over_another(made: Made, call: Callable) -> None:
    before = made.path.read_bytes()
    called = call("ecology", "run", "v1", *SET, "--out", made.path)
    assert called.status == 2
    assert "--resume" in called.err
    assert made.path.read_bytes() == before


def test_resumed_it_is_as_if_it_had_not_been_stopped(made: Made, call: Callable, tmp_path: Path) -> None:
    path = tmp_path / "again.eco"
    shutil.copy(made.path, path)
    words = "--steps", STEPS + 50, "--resume", "--controls", 0, "--out", path
    called = call("ecology", "run", "v1", *words, "--json")
    assert called.status == 0, called.err
    found = document("ecology run", called.out)
    assert (found["run"], found["controls"], found["decisions"]) == (str(path), None, None)
    assert [world["number"] for world in found["worlds"]] == [0, 1, 2, 3]
    assert not (tmp_path / "again.scrambled.eco").exists()
    assert fingerprint(load(path)) == fingerprint(evolve(World1(**SMALL), 4, STEPS + 50, SEED))


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--seed", "4"], "seed 4"),
        (["--worlds", "5"], "worlds 5"),
        (["--set", "memory=9"], "memory"),
    ],
)
def test_another_run_is_not_gone_on_with(made: Made, call: Callable, words: list[str], told: str) -> None:
    called = call("ecology", "run", "v1", "--resume", *words, "--out", made.path)
    assert called.status == 2
    assert told in called.err


@pytest.mark.parametrize("saved", [1e9, -1.0], ids=["when stopped", "now and then"])
def test_stopped_it_keeps_what_it_has(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, saved: float
) -> None:
    module = importlib.import_module("fairyring.ecology.history.evolution")
    whole = module.advance

    def stopped(settings: Any, worlds: Any, steps: int, *, watch: Callable, pace: Any, **_: Any) -> None:
        after, _ = whole(settings, worlds, 64)
        pace.running, pace.compiling = 2.5, 1.25
        watch(after, 64)
        raise KeyboardInterrupt if saved > 0 else MemoryError  # which is a kill: nobody saves then

    monkeypatch.setattr(module, "advance", stopped)
    monkeypatch.setattr(module, "SAVED", saved)
    path = tmp_path / "it's stopped.eco"
    words = ["ecology", "run", "v1", "--worlds", 1, "--steps", 300, "--seed", 7, "--controls", 5]
    if saved > 0:
        called = call(*words, *SET, "--out", path)
        assert called.status == 130
        again = shlex.split(called.out.split("Continue with: ")[1].splitlines()[0])
        assert again[:4] == ["fairyring", *words[:3]]
        told = {name: value for name, value in pairwise(again) if name.startswith("--")}
        assert told | {"--set": ""} == {
            "--worlds": "1", "--steps": "300", "--seed": "7", "--controls": "5", "--set": "", "--out": str(path),
        }  # fmt: skip
        assert again[-1] == "--resume"
        assert [word for word in again if "=" in word] == [word for word in SET if "=" in word]
    else:
        with pytest.raises(MemoryError):
            call(*words, *SET, "--out", path)
    found = load(path)
    assert (found.steps, found.seconds, found.compiling) == (64, 2.5, 1.25)


def test_stopped_before_anything_was_made_it_says_so(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stopped(*_: Any, **__: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(importlib.import_module("fairyring.ecology.history.evolution"), "advance", stopped)
    called = call("ecology", "run", "v1", *SET, "--out", tmp_path / "none.eco")
    assert called.status == 130
    assert "Stopped before there was anything to store." in called.out
    assert "--resume" not in called.out
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--set", "widht=32"], "Did you mean 'width'?"),
        (["--set", "width"], "NAME=VALUE"),
        (["--set", "width=many"], "a whole number"),
        (["--worlds", "0"], "worlds"),
        (["--controls", "2"], "4 or more"),
        (["--steps", "-5"], "--steps given -5 expected a whole number from 1"),
        (["--steps", "0"], "--steps given 0 expected a whole number from 1"),
        (
            ["--steps", "99999999999"],
            "--steps given 99999999999 expected a whole number from 1 to 2147483647",
        ),
        (["--worlds", "-3"], "--worlds given -3"),
        (["--seed", "-1"], "seed given -1 expected a whole number from 0 to 4294967295"),
        (["--seed", "4294967296"], "seed given 4294967296"),
        (["--seed", "99999999999999999999"], "seed given 99999999999999999999"),
        (["--live", "--seed", "-1"], "seed given -1"),
        (["--live", "--resume"], "with --resume expected one world"),
        (["--live", "--resume"], "cannot be replayed"),
        (
            ["--live", "--worlds", "5", "--steps", "100", "--controls", "0"],
            "do Leave out --live, or --worlds, --steps, --controls.",
        ),
        (["--port", "8000"], "expected a live page"),
        (["--resume"], "given no such file expected a run to continue"),
    ],
)
def test_what_makes_no_sense_is_refused(call: Callable, tmp_path: Path, words: list[str], told: str) -> None:
    path = tmp_path / "none.eco"
    out = [] if "--live" in words else ["--out", path]
    called = call("ecology", "run", "v1", *words, *out)
    assert called.status == 2
    assert told in " ".join(re.sub("[│─╭╮]", " ", called.err).split())
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["v1", "--steps", "0", "--quick"], "--steps given 0"),
        (["v2", "--worlds", "-1"], "--worlds given -1"),
        (["v1", "--blind", "0"], "--blind given 0"),
        (["jars", "--steps", "-8"], "--steps given -8"),
        (["rotation", "--worlds", "0"], "--worlds given 0"),
        (["v1", "--seed", "4294967296"], "seed given 4294967296"),
    ],
)
def test_a_study_of_nothing_is_refused(call: Callable, tmp_path: Path, words: list[str], told: str) -> None:
    called = call("ecology", "study", *words, "--out", tmp_path / "study")
    assert called.status == 2
    assert told in " ".join(re.sub("[│─╭╮]", " ", called.err).split())
    assert list(tmp_path.iterdir()) == []


def test_what_was_too_much_for_a_step_is_told(made: Made) -> None:
    lines = importlib.import_module("fairyring.cli._ecology_run").overrun_lines
    run = load(made.path)
    calm = [dataclasses.replace(world, numbers=world.numbers * 0) for world in run.worlds]
    assert lines(dataclasses.replace(run, worlds=tuple(calm))) == []
    calm[2].numbers[5:7, NUMBERS.index("unmet")] = 3, 9
    calm[0].numbers[3, NUMBERS.index("delayed")] = calm[1].numbers[3, NUMBERS.index("delayed")] = 1
    assert lines(dataclasses.replace(run, worlds=tuple(calm))) == [
        "2 births came a step or more late, beyond the number that a step processes, in 2 of 4 worlds.",
        "12 conjugations did not happen, beyond the number that a step processes, in 1 of 4 worlds.",
    ]


def test_live_shows_world_0_of_the_seed(call: Callable, monkeypatch: pytest.MonkeyPatch) -> None:
    served = []

    def serve(scene: Any, *, port: int, on_start: Callable[[str], None]) -> None:
        served.append((scene, port))
        on_start("http://127.0.0.1:1234/")

    monkeypatch.setattr(importlib.import_module("fairyring.ecology.watch"), "serve", serve)
    called = call("ecology", "run", "v1", "--live", "--seed", SEED, "--port", 0, *SET)
    assert called.status == 0
    assert "http://127.0.0.1:1234/" in called.out
    ((scene, port),) = served
    assert port == 0
    scene.advance(64)
    alone = evolve(World1(**SMALL), [0], 64, SEED).worlds[0]
    assert np.array_equal(scene.world_run().state.x, alone.state.x)


@pytest.mark.parametrize("step", [None, 130])
def test_a_replay_is_the_same_to_the_bit(made: Made, call: Callable, step: int | None) -> None:
    called = call("ecology", "replay", made.path, "--world", 2, *([] if step is None else ["--step", step]))
    assert called.status == 0
    assert "the same to the bit" in called.out
    digests = re.findall(r"digest of the (?:replay|file) +([0-9a-f]{64})", called.out)
    assert digests[0] == fingerprint(evolve(World1(**SMALL), [2], step or STEPS, SEED))
    assert (len(digests), len(set(digests))) == ((2, 1) if step is None else (1, 1))
    again = call("ecology", "replay", made.path, "--world", 2, "--step", 0, "--json")
    assert document("ecology replay", again.out)["same"]


@pytest.mark.parametrize(
    "name",
    ["numbers", "amounts", "key", "lineage.died", "lineage.parent", "state.x", "state.genomes", "state.food"],
)
def test_a_replay_finds_what_the_seed_does_not_give(
    made: Made, call: Callable, tmp_path: Path, name: str
) -> None:
    run, path = load(made.path), tmp_path / "other.eco"
    world = run.worlds[2]

    def one_bit(rows: Any) -> np.ndarray:
        rows = np.array(rows)
        rows.reshape(-1)[:1].view(np.uint8)[0] ^= 1
        return rows

    part, _, field = name.rpartition(".")
    if field == "food":
        other: Any = world.state._replace(fields={"food": one_bit(world.state.fields["food"])})
    elif part == "state":
        other = world.state._replace(**{field: one_bit(getattr(world.state, field))})
    elif part == "lineage":
        other = dataclasses.replace(world.lineage, **{field: one_bit(getattr(world.lineage, field))})
    else:
        part, other = field, one_bit(getattr(world, field))
    worlds = (*run.worlds[:2], dataclasses.replace(world, **{part: other}), *run.worlds[3:])
    save(dataclasses.replace(run, worlds=worlds), path)
    called = call("ecology", "replay", path, "--world", 2)
    assert called.status == 1
    assert "NOT the same" in called.out
    assert "the same to the bit" not in called.out
    told = {"lineage": "family tree", "state": "state, ", "key": "key"}.get(part, "first step 1: ")
    assert told in called.out.split("NOT the same")[1]
    assert call("ecology", "replay", path, "--world", 1).status == 0


@pytest.mark.parametrize("place", [0.3, 0.6, 0.95])
def test_a_changed_byte_of_the_file_is_found(
    made: Made, call: Callable, tmp_path: Path, place: float
) -> None:
    content, path = bytearray(made.path.read_bytes()), tmp_path / "changed.eco"
    content[int(place * len(content))] ^= 1
    path.write_bytes(content)
    called = call("ecology", "replay", path, "--world", 2)
    assert called.status == 2
    assert "nobody changed" in called.err


def test_a_replay_of_what_is_not_there_is_refused(made: Made, call: Callable, tmp_path: Path) -> None:
    assert "worlds 0, 1, 2, 3" in call("ecology", "replay", made.path, "--world", 7).err
    assert "0 to 200" in call("ecology", "replay", made.path, "--step", 201).err
    assert call("ecology", "replay", tmp_path / "none.eco").status == 2
    (tmp_path / "cut.eco").write_bytes(made.path.read_bytes()[:999])
    assert "whole file" in call("ecology", "replay", tmp_path / "cut.eco").err


def test_an_assay_of_each_world_and_with_controls_the_decision(made: Made, call: Callable) -> None:
    scrambled = made.path.with_name("small.scrambled.eco")
    called = call("ecology", "assay", made.path, "--controls", scrambled, "--individuals", 16)
    assert called.status == 0, called.err
    assert "Means over 16 individuals" in called.out
    table = called.out.split("an individual that senses nothing has an index of 1.")[1].split("\n\n")[0]
    labs = assay(load(made.path), individuals=16, seed=0, steps=150, settling=50)
    for number, lab in enumerate(labs):
        assert lab is not None
        row = next(line.split() for line in table.splitlines() if line.startswith(f"{number} "))
        assert row[1] == f"{np.nanmean(lab.index):.3g}"
        assert row[4:7] == [f"{np.nanmean(of):.3g}" for of in (lab.contrast, lab.level_contrast, lab.drift)]
        assert all(re.fullmatch(r"-?\d[\d.e-]*|–", cell) for cell in row)
        assert len(row) == 10
    assert re.search(r"Chemotaxis evolved in \d of 4 worlds", called.out)
    again = call("ecology", "assay", made.path, "--controls", scrambled, "--individuals", 16, "--json")
    found = document("ecology assay", again.out)
    assert found["worlds"][0]["contrast"] == float(np.nanmean(labs[0].contrast))  # type: ignore[union-attr]
    assert sum(one["chemotaxis"] for one in found["decisions"]) == int(
        re.findall(r"evolved in (\d) of 4", called.out)[0]
    )
    for seed in (-1, 2**32, 10**20):
        assert "seed" in call("ecology", "assay", made.path, "--seed", seed).err


def test_controls_that_do_not_control_are_refused(made: Made, call: Callable, tmp_path: Path) -> None:
    scrambled, path = load(made.path.with_name("small.scrambled.eco")), tmp_path / "controls.eco"

    def short(world: Any) -> Any:
        return dataclasses.replace(world, numbers=world.numbers[:150], amounts=world.amounts[:150])

    def with_settings(**changes: Any) -> Any:
        return dataclasses.replace(scrambled, settings=dataclasses.replace(scrambled.settings, **changes))

    for other, told in (
        (load(made.path), "control none"),
        (with_settings(control="blind"), "control blind"),
        (with_settings(food_influx=9.0), "food_influx 9.0"),
        (with_settings(dwell=False), "dwell False"),
        (dataclasses.replace(scrambled, worlds=tuple(map(short, scrambled.worlds))), "steps 150"),
        (evolve(World2(founders=2, minimum=2), [1], 0), "world v2"),
    ):
        save(other, path)
        called = call("ecology", "assay", made.path, "--controls", path)
        assert called.status == 2
        assert f"given     {told} " in called.err
    beside = made.path.with_name("small.scrambled.eco")
    assert "themselves" in call("ecology", "assay", beside, "--controls", beside).err


def test_a_film_of_the_last_steps(made: Made, call: Callable, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    out = tmp_path / "film.gif"
    words = ["--world", 1, "--steps", 30, "--every", 10, "--size", 64]
    called = call("ecology", "video", made.path, out, *words)
    assert called.status == 0, called.err
    assert "steps 170 to 200" in called.out
    with image.open(out) as film:
        assert film.n_frames == 4
    assert ".gif" in call("ecology", "video", made.path, tmp_path / "film.txt", *words).err


def test_a_study_writes_its_findings_and_its_report(call: Callable, tmp_path: Path) -> None:
    words = ["--worlds", 4, "--controls", 4, "--blind", 4, "--steps", STEPS, "--seed", SEED]
    called = call("ecology", "study", "v1", *SET, *words, "--out", tmp_path / "study", "--json")
    assert called.status == 0, called.err
    found = json.loads((tmp_path / "study" / "study.json").read_text("utf-8"))
    assert found["settings"]["width"] == 32
    passed = found["decisions"]["passed"]
    told = document("ecology study", called.out)
    said = " ".join(told["found"])
    assert f"{passed['evolved']} of 4 evolved, {passed['scrambled']} of 4 scrambled" in said
    assert found["decisions"]["configuration"]["why"] in said
    tables = {path.stem: str(path) for path in (tmp_path / "study").glob("*.csv")}
    assert told["tables"] == tables
    assert "worlds" in tables
    page = tmp_path / "study" / "report.html"
    assert (told["verdicts"], told["report"]) == (found["verdicts"], str(page))
    first = page.read_bytes()
    page.unlink()
    assert call("ecology", "report", tmp_path / "study").out.strip() == f"Report: {page}"
    assert page.read_bytes() == first
    refused = call("ecology", "study", "jars", "--blind", 4, "--out", tmp_path / "jars")
    assert refused.status == 2
    refused = call("ecology", "study", "rotation", "--world", "v1", "--out", tmp_path / "jars")
    assert refused.status == 2
    assert "of world 2" in refused.err
    assert not (tmp_path / "jars").exists()


def test_jars_say_who_excludes_whom(made: Made, call: Callable) -> None:
    words = ["--steps", 300, "--replicates", 4, "--scale", 1]
    called = call("ecology", "jar", f"{made.path}:1", f"{made.path}:3", *words)
    assert called.status == 0, called.err
    assert f"A  {made.path}:1: yield alone" in called.out
    row = next(line for line in called.out.splitlines() if line.startswith("A + B"))
    assert re.search(r"\d of 4 \[\d[\d.]*, [\d.]+\]", row)
    assert re.search(r"(A excludes B|B excludes A|A outgrows B|B outgrows A|coexist|undecided) *$", row)
    assert "the other declines from 5 %" in called.out
    assert "two or more" in call("ecology", "jar", made.path).err
    refused = call("ecology", "jar", made.path, f"{made.path}:9")
    assert refused.status == 2
    assert ":0 in a jar" in " ".join(re.sub("│", " ", refused.err).split())


def test_populations_of_other_bodies_are_not_put_together(made: Made, call: Callable, tmp_path: Path) -> None:
    run, other = load(made.path), tmp_path / "other.eco"
    save(dataclasses.replace(run, settings=dataclasses.replace(run.settings, basal_cost=0.03)), other)
    refused = call("ecology", "jar", f"{made.path}:1", f"{other}:3", "--steps", 3, "--replicates", 2)
    assert refused.status == 2
    assert "another kind of world" in " ".join(re.sub("│", " ", refused.err).split())


def test_jars_in_which_nobody_lives_are_told(made: Made, call: Callable, tmp_path: Path) -> None:
    run = load(made.path)
    save(
        dataclasses.replace(run, settings=dataclasses.replace(run.settings, food_influx=0.0)),
        tmp_path / "bare.eco",
    )
    words = ["--steps", 300, "--replicates", 2, "--scale", 1]
    called = call("ecology", "jar", *(f"{tmp_path / 'bare.eco'}:{i}" for i in (1, 3)), *words)
    assert called.status == 0, called.err
    row = next(line for line in called.out.splitlines() if line.startswith("A + B"))
    assert re.search(r"0 of 0 \[–, –\] .*neither lives *$", row)
    assert "nobody lived at the end of any jar" in called.out
    pair = [f"{tmp_path / 'bare.eco'}:{i}" for i in (1, 3)]
    told = document("ecology jar", call("ecology", "jar", *pair, *words, "--json").out)
    assert [one["name"] for one in told["populations"]] == pair
    assert [(one["first"], one["second"], one["verdict"]) for one in told["contests"]] == [
        (*pair, "neither lives")
    ]
