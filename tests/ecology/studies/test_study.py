"""A study is its runs, what the lab says of them, and the decision; made twice it is the same, and a run in its folder is not made again."""

import dataclasses
import json

import numpy as np
import pytest

from fairyring.core.errors import EcologyError, RunError, RunMismatch, StorageError
from fairyring.ecology.history.evolution import Evolution, evolve, load
from fairyring.ecology.history.running import advance
from fairyring.ecology.lab.restarts import closed, colonies, persisted, sizes
from fairyring.ecology.results import decided, plain, read_study
from fairyring.ecology.studies import chemotaxis
from fairyring.ecology.studies import rewards as study_rewards
from fairyring.ecology.studies import study as studying
from fairyring.ecology.studies.chemotaxis import study_world1, study_world2
from fairyring.ecology.studies.rewards import adjusted, paired
from fairyring.ecology.studies.study import Arm, conduct
from fairyring.ecology.world.policies import q_learning
from fairyring.ecology.world.settings import World1, World2
from fairyring.ecology.world.state import NUMBERS
from fairyring.ecology.zoo import exhibits
from tests.ecology.worlds import FIRST, SECOND, same_bits

pytestmark = pytest.mark.optimised

COUNTS = {"worlds": 4, "controls": 4, "blind": 4, "lab_steps": 60}


@pytest.fixture(scope="module")
def first(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v1")
    told = []
    found = study_world1(
        folder, settings=FIRST, steps=256, seed=6, progress=lambda *call: told.append(call), **COUNTS
    )
    return folder, found, told


def test_a_study_says_what_it_found_of_each_world_beside_its_controls(first):
    folder, found, told = first
    assert json.loads((folder / "study.json").read_text()) == json.loads(json.dumps(found))
    assert {arm: len(of["worlds"]) for arm, of in found["arms"].items()} == dict.fromkeys(
        chemotaxis.ARMS[:3], 4
    )
    numbers = [row["world"] for of in found["arms"].values() for row in of["worlds"]]
    assert len(set(numbers)) == 12  # arms share no world
    for arm in found["arms"]:
        for row, decision in zip(
            found["arms"][arm]["worlds"], found["decisions"]["worlds"][arm], strict=True
        ):
            assert (decision is None) == ("assay" not in row)
            if decision is not None:
                assert decision["verdict"] == all(one["met"] for one in decision["criteria"])
    assert found["decisions"]["errors"]["worlds"] <= 4
    assert {what for what, *_ in told} >= {"evolved worlds, steps", "blind worlds in the lab"}


def test_a_study_made_again_reads_its_runs_and_finds_the_same(first, monkeypatch):
    folder, found, _ = first
    monkeypatch.setattr(studying, "evolve", lambda *_, **__: pytest.fail("the runs are there"))
    again = study_world1(folder, settings=FIRST, steps=256, seed=6, **COUNTS)
    for part in ("arms", "decisions", "settings"):
        assert again[part] == found[part]


def test_a_study_of_other_worlds_is_not_mixed_in(first):
    folder, _, _ = first
    with pytest.raises(RunMismatch, match="run of seed 6"):
        study_world1(folder, settings=FIRST, steps=256, seed=7, **COUNTS)
    with pytest.raises(RunMismatch, match="128 steps at most"):
        study_world1(folder, settings=FIRST, steps=128, seed=6, **COUNTS)
    with pytest.raises(RunMismatch, match="basal_cost"):
        study_world1(
            folder, settings=dataclasses.replace(FIRST, basal_cost=0.03), steps=256, seed=6, **COUNTS
        )


def test_what_is_decided_is_in_the_file_and_of_older_files_decided_anew(first, tmp_path):
    folder, found, _ = first
    assert read_study(folder)["verdicts"] == found["verdicts"]
    older = {name: of for name, of in found.items() if name != "verdicts"}
    (tmp_path / "study.json").write_text(json.dumps(older))
    assert read_study(tmp_path)["verdicts"] == found["verdicts"] == decided(found)
    assert set(found["verdicts"]["rule"]) == {"change", "level"}


class Halves:
    """A study of the reader's own: the same world twice, and which half is larger."""

    kind, seed, settings = "halves", 4, FIRST

    def arms(self):
        return tuple(
            Arm(name, FIRST, range(at, at + 2), 64, f"{name} worlds")
            for at, name in ((0, "one"), (9, "other"))
        )

    def decide(self, runs, say, cores):
        one, other = (int(run.metrics["population"][:, -1].sum()) for run in runs.values())
        return {"larger": "one" if one > other else "other", "sizes": [one, other]}


def test_a_study_of_ones_own_is_run_kept_and_gone_on_with(tmp_path, monkeypatch):
    found = conduct(Halves(), tmp_path / "new" / "study")
    assert {path.name for path in (tmp_path / "new" / "study").iterdir()} == {
        "one.eco",
        "other.eco",
        "study.json",
    }
    assert read_study(tmp_path / "new" / "study")["larger"] == found["larger"]
    assert conduct(Halves())["sizes"] == found["sizes"]  # kept nowhere
    runs = {name: load(tmp_path / "new" / "study" / f"{name}.eco") for name in ("one", "other")}
    monkeypatch.setattr(studying, "evolve", lambda *_, **__: pytest.fail("the runs are there"))
    assert conduct(Halves(), tmp_path / "new" / "study")["sizes"] == found["sizes"]
    assert conduct(Halves(), runs=runs)["sizes"] == found["sizes"]
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError):
        conduct(Halves(), tmp_path / "file")


def test_too_few_worlds_are_refused_before_anything_runs(tmp_path):
    with pytest.raises(EcologyError, match="four or more"):
        study_world1(tmp_path / "new", settings=FIRST, worlds=3)
    assert not (tmp_path / "new").exists()


@pytest.fixture(scope="module")
def second(tmp_path_factory):
    folder = tmp_path_factory.mktemp("v2")
    return folder, study_world2(folder, settings=SECOND, steps=640, seed=2, **COUNTS)


@pytest.mark.slow
def test_a_study_of_rewards_has_its_controls(second):
    folder, found = second
    events = [event.name for event in SECOND.events]
    assert len(found["viability"]["classes"]) == 4
    assert set(found["viability"]["classes"]) <= {
        "too short",
        "extinct",
        "propped",
        "viable",
        "capacity-limited",
    }
    assert [row["name"] for row in found["knock_outs"]] == events
    assert all(row["p_holm"] >= row["p"] for row in found["knock_outs"])
    assert [row["name"] for row in found["relearning"]] == [
        "chemotactic index",
        "tumble contrast",
        "population, log",
    ]
    assert set(found["against_controls"]) == {"population", "emission"}
    assert set(found["against_controls"]["population"]) == {"scrambled", "blind", "no-inheritance"}
    unrelated = load(folder / "no-inheritance.eco").settings
    assert (unrelated.control, unrelated.retention) == ("scrambled", 0)
    assert set(found["decisions"]["passed_beside_no-inheritance"]) == set(chemotaxis.ARMS)
    assert set(found["decisions"]["worlds"]) == set(found["arms"]) == set(chemotaxis.ARMS)


def test_only_where_learning_is_passed_on_is_there_a_control_without_it():
    kept = {
        heredity: chemotaxis._keeps_what_was_learned(World2(policy=q_learning(heredity)))
        for heredity in ("rewards", "retention", "evolved values", "lamarck")
    }
    assert [heredity for heredity, is_kept in kept.items() if is_kept] == ["retention", "lamarck"]
    assert not chemotaxis._keeps_what_was_learned(World2(retention=0.0))
    assert not chemotaxis._keeps_what_was_learned(World1())


def test_the_distance_that_heredity_makes_is_found_and_no_other():
    rng = np.random.default_rng(4)
    ours, theirs = rng.normal(0, 1, (16, 4)), rng.normal(0, 1, (17, 4))
    ours[:, 1] += 4
    theirs[16] = np.nan  # a world in which nobody lives
    found = study_rewards._without_heredity(ours, theirs, ["a", "moved", "b", "dummy"], "dummy")
    assert len(found["worlds"]) == 16
    corrected = {row["name"]: row["p_holm"] for row in found["apart"]}
    assert corrected["moved"] < 1e-6
    assert min(corrected["a"], corrected["b"]) > 0.05
    assert next(row for row in found["apart"] if row["name"] == "moved")["delta"] > 0.9


def test_restarts_are_copies_that_begin_alike_and_know_nothing_if_asked():
    run = evolve(SECOND, 2, 200, seed=1)
    settings = closed(SECOND)
    assert (settings.minimum, settings.mutation_rate, settings.conjugation) == (0, 0, 0)
    knowing = colonies(run, settings, seed=3, replicates=2)
    naive = colonies(run, settings, seed=3, replicates=2, naive=True)
    for one, other in zip(knowing, naive, strict=True):
        np.testing.assert_array_equal(one.state.genomes, other.state.genomes)
        np.testing.assert_array_equal(one.state.x, other.state.x)
        assert not other.state.mind["values"].any()
    own = {row.tobytes() for row in run.worlds[1].genomes()}
    assert all(row.tobytes() in own for row in knowing[2].genomes())
    same_bits(knowing[3].state, colonies(run, settings, seed=3, replicates=2)[3].state)
    without = colonies(run, settings, seed=3, change=lambda rows, draw: rows * 0)
    assert not without[0].state.genomes.any()
    after, _ = advance(settings, knowing[:1], 100)
    assert after[0].numbers[:, 3].sum() == 0  # nobody came in
    assert sizes(after, 50)[0] == after[0].numbers[50:, 0].mean()


def test_whoever_starves_does_not_last():
    starving = dataclasses.replace(FIRST, food_influx=0.01, minimum=0)
    run = evolve(FIRST, 2, 300, seed=5)
    lean = Evolution(starving, 5, run.numbers, run.worlds)
    lasted = persisted(run, seed=1, replicates=3, generations=1)
    gone = persisted(lean, seed=1, replicates=3, generations=20)
    assert all(sum(of) == 3 for of in lasted)
    assert all(sum(of) == 0 for of in gone)


def test_differences_between_arms_are_of_worlds_with_both():
    row = paired("size", np.array([1.0, 2.0, np.nan, 4.0]), np.array([0.0, 1.0, 5.0, 3.0]))
    assert row.mean.estimate == 1
    assert len(row.ours) == 3
    assert row.p == 0.25  # all three signs alike: 2 of 8
    rows = adjusted([row, row])
    assert [of.p_holm for of in rows] == [0.5, 0.5]


def test_of_no_world_at_all_there_is_no_difference_and_no_error():
    row = paired("size", np.array([np.nan, 1.0]), np.array([2.0, np.nan]))
    assert (row.ours, row.p, row.mean.method) == ([], 1.0, "too few")
    assert adjusted([row])[0].p_holm == 1


def test_where_nobody_is_born_nobody_keeps_themselves(tmp_path):
    barren = dataclasses.replace(SECOND, food_influx=0.01, minimum=4, founders=20)
    run = evolve(barren, 2, 1200, seed=1)
    assert all(not world.numbers[600:, NUMBERS.index("births")].any() for world in run.worlds)
    lasted = persisted(run, seed=0, replicates=10)
    assert not any(map(any, lasted))
    assert [
        study_rewards._class(world, of, run.steps) for world, of in zip(run.worlds, lasted, strict=True)
    ] == [
        "propped",
        "propped",
    ]


def test_a_study_of_worlds_that_die_out_says_so_and_keeps_its_runs(tmp_path):
    barren = dataclasses.replace(FIRST, food_influx=0.01, minimum=0)
    with pytest.raises(EcologyError, match="0 of 4 alive at step 300"):
        study_world1(tmp_path, settings=barren, steps=300, seed=1, **COUNTS)
    assert {path.name for path in tmp_path.iterdir()} == {"evolved.eco", "scrambled.eco", "blind.eco"}


def test_what_is_learned_again_is_learned_from_nothing_whatever_the_heredity(monkeypatch):
    settings = dataclasses.replace(SECOND, policy=q_learning("evolved values"))
    run = evolve(settings, 2, 100, seed=2)
    met = []

    def looked(settings, worlds, steps, **_):
        met.append((settings, worlds))
        return advance(settings, worlds, 1)

    monkeypatch.setattr(study_rewards, "advance", looked)
    study_rewards.relearning(run, lambda run: [None] * len(run.worlds), seed=1)
    assert len(met) == 2
    for settings, worlds in met:
        assert (settings.policy, settings.retention) == (q_learning(), 0)
        assert not any(world.minds()["values"].any() for world in worlds)
        assert all(world.genomes().shape[1] == len(settings.events) for world in worlds)


def test_results_become_plain_values():
    made = plain({"a": np.float32(0.5), "b": [np.array([1, 2]), float("nan")], "c": ()})
    assert made == {"a": 0.5, "b": [[1, 2], None], "c": []}


def test_the_zoo_is_made_of_a_study_and_read_again(first, tmp_path):
    folder, found, _ = first
    none = {**found, "decisions": {**found["decisions"], "worlds": {"evolved": [None] * 4}}}
    changed = tmp_path / "study"
    changed.mkdir()
    (changed / "evolved.eco").write_bytes((folder / "evolved.eco").read_bytes())
    (changed / "study.json").write_text(json.dumps(none))
    with pytest.raises(EcologyError, match="no population that qualifies"):
        exhibits.make_zoo(changed, tmp_path / "zoo")
    fit = {
        **none,
        "decisions": {**none["decisions"], "worlds": {"evolved": [{"verdict": i < 2} for i in range(4)]}},
    }
    (changed / "study.json").write_text(json.dumps(fit))
    written = exhibits.make_zoo(changed, tmp_path / "zoo", limit=1)
    kept = exhibits.read_exhibit(written[0])
    assert kept.name == "v1-0"
    assert kept.settings == FIRST
    assert kept.population.genomes.shape == (exhibits.INDIVIDUALS, 18)
    assert kept.card["index"] == found["arms"]["evolved"]["worlds"][0]["assay"]["index"]
    with pytest.raises(RunError, match="no such file"):
        exhibits.read_exhibit(tmp_path / "nobody.safetensors")
    written[0].write_bytes(written[0].read_bytes()[:-7])
    with pytest.raises(RunError, match="expected a whole file"):
        exhibits.read_exhibit(written[0])


def test_the_zoo_that_comes_with_the_package_is_whole():
    names = exhibits.names()
    assert len([name for name in names if name.startswith("v1")]) >= 2
    assert len([name for name in names if name.startswith("v2")]) >= 6
    for name in names:
        one = exhibits.exhibit(name)
        assert one.population.genomes.shape == (exhibits.INDIVIDUALS, one.settings.genes)
        assert np.isfinite(one.population.genomes).all()
        assert one.card["immigrants"] == 0
        if name.startswith("v1"):
            assert one.card["index"] > 1.25
        else:
            assert one.card["viability"] == "viable"
    with pytest.raises(EcologyError, match="zoo: given 'unicorn'"):
        exhibits.exhibit("unicorn")
