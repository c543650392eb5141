"""The report of a study: every world has its row, every figure its runs, a null result is said as plainly as any other."""

import json
import re
import subprocess
import sys
from functools import partial
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from fairyring.core.errors import RunDamaged, RunError, StorageError
from fairyring.ecology import World1
from fairyring.ecology.lab.assays import assay
from fairyring.ecology.results import decided, plain, read_study
from fairyring.ecology.studies import chemotaxis as study
from fairyring.report import write_study_report

from .studies import interval, jars, rotation, run_hash, world1, world2, written

pytestmark = pytest.mark.optimised

STUDIES = [world1(), world2(), jars(), rotation()]


class Page(HTMLParser):
    """What a reader of a page sees, and what a browser would fetch."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.captions: list[str] = []
        self.text, self.title = "", ""
        self.fetched: list[str] = []
        self.figures = self.drawn = 0
        self.open: list[str] = []
        self.feed(text)
        self.close()
        self.text = " ".join(self.text.split())
        self.rows = [[" ".join(cell.split()) for cell in row] for row in self.rows]

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.fetched += [
            f"{tag} {name}={value}"
            for name, value in attrs
            if name in ("src", "href", "srcset", "xlink:href", "action", "data")
            and not str(value).startswith(("#", "data:"))
        ]
        self.figures += tag == "figure"
        self.drawn += tag == "svg" and "figure" in self.open
        if tag == "tr":
            self.rows.append([])
        elif tag in ("td", "th"):
            self.rows[-1].append("")
        elif tag == "figcaption":
            self.captions.append("")
        if tag not in ("meta", "link", "br"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        while self.open and self.open.pop() != tag:
            pass

    def handle_data(self, data: str) -> None:
        if "style" in self.open:
            return
        self.text += data
        if "h1" in self.open:
            self.title += data
        if "figcaption" in self.open:
            self.captions[-1] += data
        elif {"td", "th"} & set(self.open) and self.rows[-1]:
            self.rows[-1][-1] += data

    def rows_of(self, name: str) -> list[list[str]]:
        return [row for row in self.rows if row and row[0] == name]

    def row(self, name: str) -> list[str]:
        (found,) = self.rows_of(name)
        return found


def page(folder: Path, found: dict[str, Any]) -> Page:
    return Page(write_study_report(written(folder, found)).read_text("utf-8"))


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The page of each kind of study."""
    made = {}
    for found in STUDIES:
        folder = written(tmp_path_factory.mktemp(found["study"]), found)
        assert write_study_report(folder) == folder / "report.html"
        made[found["study"]] = (folder / "report.html").read_text("utf-8")
    return made


@pytest.mark.parametrize("found", STUDIES, ids=lambda found: found["study"])
def test_it_holds_all_it_shows_and_every_figure_names_its_runs(
    pages: dict[str, str], found: dict[str, Any]
) -> None:
    text = pages[found["study"]]
    seen = Page(text)
    assert seen.fetched == []
    assert "http" not in text.replace("http-equiv", "")
    assert "url(" not in re.sub(r"url\(#", "", text)
    assert seen.figures == seen.drawn == len(seen.captions) > 0
    hashes = found.get("runs") or {arm: of["hash"] for arm, of in found["arms"].items()}
    for caption in seen.captions:
        assert any(whole[:12] in caption for whole in hashes.values()), caption
        assert "Heredity" in caption
    for whole in hashes.values():
        assert whole in seen.text
    for words in ("Seed", "1.2.3", "x86_64", "1 min 02 s"):
        assert words in seen.text


def test_reports_are_written_where_jax_is_missing(tmp_path: Path) -> None:
    folders = []
    for found in STUDIES:
        (tmp_path / found["study"]).mkdir()
        folders.append(written(tmp_path / found["study"], found))
    code = f"""
import sys

class Missing:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in ("jax", "jaxlib"):
            raise ModuleNotFoundError(name)

sys.meta_path.insert(0, Missing())
from fairyring.cli import main
sys.exit(max(main(["ecology", "report", folder]) or 0 for folder in {[*map(str, folders)]!r}))
"""
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)
    for folder in folders:
        assert "Machine, versions, time" in (folder / "report.html").read_text("utf-8")


def test_keys_of_older_files_are_understood(tmp_path: Path) -> None:
    def older(value: Any) -> Any:
        if isinstance(value, list):
            return [older(item) for item in value]
        if isinstance(value, dict):
            return {
                key.replace("no-inheritance", "unrelated").replace("immigrants", "newcomers"): older(item)
                for key, item in value.items()
            }
        return value

    for found in (world2(), jars()):
        former = older(found)
        assert former != found
        assert read_study(written(tmp_path / found["study"], former)) == found | {"verdicts": decided(found)}


def test_the_same_study_gives_the_same_bytes(tmp_path: Path) -> None:
    folder = written(tmp_path, jars())
    first = write_study_report(folder).read_bytes()
    assert write_study_report(folder, tmp_path / "again.html").read_bytes() == first


def test_every_world_has_its_row_and_every_number_its_threshold(pages: dict[str, str]) -> None:
    seen = Page(pages["v1"])
    for arm, first in (("evolved", 0), ("scrambled", 1000), ("blind", 2000)):
        for i in range(4):
            assert len(seen.rows_of(f"{arm} {first + i}")) == 2, "one of the decision and one of its life"
    passed, failed, gone = (seen.rows_of(f"evolved {i}")[0] for i in (0, 2, 3))
    assert passed[1] == "yes ✓"
    assert passed[3:] == [
        "2.72 (> 1.54) ✓", "2.72 (> 1.25) ✓", "0.41 (> 0.1) ✓", "1.04 (0.9 … 1.1) ✓",
    ]  # fmt: skip
    assert (failed[1], failed[5]) == ("no ✗", "0.0123 (> 0.1) ✗")
    assert gone[1:3] == ["no", "nobody lives"]
    assert "Given back their own observations, 1 of 4 blind worlds would pass" in seen.text
    assert "probability of 20.0 % at most" in seen.text
    assert "99% lower bound of the tumble contrast: 1 world." in seen.text
    assert "0 of 4 scrambled worlds got a yes. At most one can be above all others" in seen.text


def test_the_headline_says_what_was_found(pages: dict[str, str], tmp_path: Path) -> None:
    seen = Page(pages["v1"])
    assert seen.title == "Chemotaxis evolved in 2 of 4 worlds"
    assert "evolves in this configuration is not shown" in seen.text
    none = world1()
    none["decisions"]["passed"]["evolved"] = 0
    assert page(tmp_path / "none", none).title == "Chemotaxis evolved in none of 4 worlds"


def test_the_rule_is_told_with_its_interval_or_not_at_all(pages: dict[str, str]) -> None:
    text = Page(pages["v1"]).text
    assert "Change: evolved worlds tumble more when food falls; mean contrast over worlds 0.47 [" in text
    assert "Level: no common sign over evolved worlds" in text


def test_rewards_are_told_beside_the_lecture_and_the_null(pages: dict[str, str]) -> None:
    seen = Page(pages["v2"])
    assert seen.title == "3 of 4 evolved populations are viable; 2 of 3 rewards have a sign beyond chance"
    assert seen.rows_of("eat")[0] == [
        "eat",
        "0.52 [0.31, 0.66]",
        "4 of 4",
        "0.002",
        "0.002",
        "+",
        "+, agrees ✓",
    ]
    assert seen.rows_of("emitted")[0][-2:] == ["−", "+, disagrees ✗"]
    assert seen.rows_of("hungry")[0][-1] == "undecided"
    assert seen.rows_of("dummy (the null)")[0][-1] == "at 0 ✓"
    assert "agrees: eat; disagrees: emitted; undecided: hungry" in seen.text
    assert "Trust no row" not in seen.text
    assert (
        "in which nothing is passed on, chemotaxis is in 3 of 4 evolved worlds, 1 of 4 scrambled worlds"
        in seen.text
    )
    assert "Beyond chance: chemotactic index." in seen.text
    assert (
        "With 3 worlds no difference can be shown at 0.05: the smallest possible p after Holm's correction is 0.25."
        in seen.text
    )
    assert "Nothing differs beyond chance." not in seen.text
    assert ["evolved 3", "extinct ✗", "0 of 10"] in [row[:3] for row in seen.rows_of("evolved 3")]


def test_signs_that_need_no_heredity_are_told_from_those_that_do(tmp_path: Path) -> None:
    found = world2()
    control = found["rewards"]["controls"]["scrambled"]["table"]
    control[0] = control[0] | {"mean": interval(0.4, 0.3, 0.5), "p_holm": 0.001}
    control[0]["signs"] = control[0]["signs"] | {"positive": 4, "negative": 0}
    control[3] = control[3] | {"mean": interval(0.09, 0.05, 0.13), "null_holds": False}
    seen = page(tmp_path, found)
    lead = seen.text[: seen.text.index("Which rewards evolved")]
    assert "same sign beyond chance for: eat; evolved worlds have a sign of their own for: emitted." in lead
    assert "evolved rewards differ from theirs in: emitted." in lead
    assert "The control's own null fails: there the reward for the dummy is 0.09 [0.05, 0.13]" in lead
    assert seen.rows_of("dummy (the null)")[1][-1] == "not at 0 ✗"


def test_a_null_that_fails_is_said_before_the_rewards(tmp_path: Path) -> None:
    seen = page(tmp_path, world2(dummy=(0.3, 0.1, 0.5)))
    assert seen.text.index("Trust no row") < seen.text.index("Viable worlds")
    assert seen.rows_of("dummy (the null)")[0][-1] == "not at 0 ✗"


def test_what_no_outcome_could_have_shown_is_not_called_absent(tmp_path: Path) -> None:
    found = world2()
    few = [row | {"mean": row["mean"] | {"size": 6}} for row in found["rewards"]["table"]]
    found["rewards"]["table"] = few
    found["decisions"]["configuration"] = found["decisions"]["configuration"] | {"decidable": False}
    seen = page(tmp_path, found)
    assert seen.title == "3 of 4 evolved populations are viable; too few to show a sign of any reward"
    assert (
        "With 6 worlds no sign can be shown at 0.05: the smallest possible p after Holm's correction is 0.094."
        in seen.text
    )
    assert "Undecided, with too few worlds for any yes: the indices of 3 evolved worlds" in seen.text


def test_worlds_that_were_not_run_for_long_enough_are_told_apart(tmp_path: Path) -> None:
    found = world2(viable=False)
    found["viability"]["classes"] = ["too short"] * 4
    seen = page(tmp_path, found)
    assert seen.title.startswith("None of 4 evolved populations are viable, 4 not run for long enough to say")
    assert "Of 4 evolved worlds: 4 too short (not run for 20 of its generations" in seen.text


def test_too_few_viable_worlds_have_no_table(tmp_path: Path) -> None:
    seen = page(tmp_path, world2(viable=False))
    assert seen.title == "None of 4 evolved populations are viable: too few to say which rewards evolved"
    assert "There is no table of rewards" in seen.text
    assert "4 propped" in seen.text


def test_jars_are_told_pair_by_pair(pages: dict[str, str]) -> None:
    seen = Page(pages["jars"])
    assert seen.title == "Of 3 pairs, in 1 one population excludes the other"
    assert (
        "2 pairs are undecided: in 1 of them one gains from even shares beyond drift, in none of the others"
        in seen.text
    )
    assert "and in 1 nothing beyond drift is shown." in seen.text
    first = seen.rows_of("0 + 1")[0]
    assert first[1:4] == ["0 excludes 1 ✓", "0.934 (0.503)", "0.003 / 1"]
    assert first[5:7] == ["0.003 / 1", "1 / 0.0015"]
    assert "0.0 % / 35.0 %" in first
    assert seen.rows_of("0 + 2")[0][1] == "undecided"
    assert seen.rows_of("1 + 2")[1][1:5] == ["–"] * 4
    assert seen.row("at the end")[1:] == ["0.0431", "–", "–", "0 of 1", "bent by saturation: not read"]
    assert seen.row("at step 150")[1:] == ["0.039", "0.022", "0.34", "0 of 1", "not shown"]
    assert "one <excludes> the other" in seen.text
    assert [row[1] for row in seen.rows_of("capacity")] == ["128", "96"]


def test_jars_in_which_nobody_lived_and_too_few_are_told(tmp_path: Path) -> None:
    found = jars()
    told = found["jars"]
    dead = {"mean": None, "p": 1.0, "holm": 1.0, "jars": 0, "controls": 0, "least": 1.0, "in_reach": False}
    tests = [f"{side}_{does}" for side in ("first", "second") for does in ("gains", "invades", "declines")]
    told["contests"][0] |= {name: dead | {"drift": None} for name in tests} | {"verdict": "neither lives"}
    told["contests"][1] |= {"verdict": "cannot be shown with 2 jars and 4 controls"}
    told["verdicts"] = {
        "excludes": 0, "outgrows": 0, "coexist": 0, "undecided": 1, "cannot be shown": 1, "neither lives": 1,
    }  # fmt: skip
    told |= {"standing": None, "early_standing": None, "undecided": {"gains": 0, "rare": 0, "nothing": 1}}
    seen = page(tmp_path / "dead", found)
    assert seen.rows_of("0 + 1")[0][1:4] == ["neither lives", "– (–)", "1 / 1"]
    assert seen.rows_of("0 + 2")[0][1] == "cannot be shown with 2 jars and 4 controls"
    assert "In 1 pair no verdict can be shown with so few surviving jars" in seen.text
    assert "In 1 pair nobody lived at the end of any jar." in seen.text
    assert "There is no ranking" in seen.text
    whole = jars()
    whole["jars"]["early_step"] = whole["jars"]["jar_steps"]
    seen = page(tmp_path / "open", whole)
    assert seen.row("at the end")[1:4] == ["0.039", "0.022", "0.34"]
    whole["jars"] |= {"early_step": 0, "early_standing": None}
    seen = page(tmp_path / "bent", whole)
    assert seen.row("at the end")[-1] == "bent by saturation: not read"
    assert "so the share is not judged" in seen.text


def test_rotation_is_judged_beside_its_nulls_and_all_at_once(pages: dict[str, str], tmp_path: Path) -> None:
    seen = Page(pages["rotation"])
    assert seen.title == "1 of 6 measures of rotation is beyond its null"
    assert seen.row("selection, no potential")[1:6] == [
        "beyond its null ✓",
        "0.0842",
        "0.0077",
        "0.0004",
        "0.0024",
    ]
    assert seen.row("what they do turns")[1] == "not at rest: not read"
    assert seen.row("cycles in jars, early")[1] == "not shown"
    assert "not to be read as rotation: behaviour" in seen.text
    assert "With so few worlds" not in seen.text
    assert "extinct at the end of 8.3 % of the jars, and of 25.0 % at the worst point" in seen.text
    seen = page(tmp_path / "none", rotation(curl_p=0.03))
    assert seen.title == "None of 6 measures of rotation is beyond its null"
    assert seen.row("selection, no potential")[1] == "only before Holm"


def test_a_bent_ranking_is_no_cycle(tmp_path: Path) -> None:
    found = rotation()
    found["rotation"]["jars"] = found["rotation"]["jars"] | {
        "hodge": {"share": 0.31, "potentials": [1.0, -1.0, 0.0], "p": 0.0001, "null_share": 0.022}
    }
    seen = page(tmp_path, found)
    assert seen.title == "1 of 6 measures of rotation is beyond its null"
    late = seen.row("cycles in jars, at the end")
    assert late[1:6] == ["bent by saturation: not read", "0.31", "0.022", "–", "–"]


def test_what_no_data_could_have_shown_is_not_called_absent(tmp_path: Path) -> None:
    seen = page(tmp_path, rotation(worlds=6, rewards_p=0.03125))
    for name in ("what they inherit turns", "learning, antisymmetric", "learning, between halves"):
        assert seen.row(name)[1] == "cannot be shown: too few"
    assert seen.row("what they do turns")[1] == "not at rest: not read"
    assert seen.row("selection, no potential")[1] == "beyond its null ✓"
    assert "(the smallest possible p is 0.031, by Holm 0.12)" in seen.text
    seen = page(tmp_path / "more", rotation(worlds=8, rewards_p=0.4))
    assert seen.row("what they inherit turns")[1] == "not shown"


def test_what_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        write_study_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no study\.json"):
        write_study_report(tmp_path)
    for content in (b"{", b"[]", b'{"study": "v9"}', b'{"study": "v1"}'):
        (tmp_path / "study.json").write_bytes(content)
        with pytest.raises(RunDamaged):
            write_study_report(tmp_path)
    lacking = world1()
    del lacking["arms"]["blind"]
    with pytest.raises(RunDamaged, match="blind"):
        write_study_report(written(tmp_path, lacking))
    assert not (tmp_path / "report.html").exists()
    with pytest.raises(StorageError):
        write_study_report(written(tmp_path, world1()), tmp_path / "study.json" / "report.html")


def test_the_report_shows_what_the_study_decided(tmp_path: Path) -> None:
    """A verdict that its numbers would not give is shown as it stands: nothing is decided twice."""
    found = rotation()
    verdicts = plain(decided(found))
    assert [row["verdict"] for row in verdicts["rotation"]].count("beyond its null") == 1
    for row in verdicts["rotation"]:
        row |= {"turns": row["name"] == "learning, antisymmetric", "verdict": "as decided"}
    seen = Page(write_study_report(written(tmp_path, found | {"verdicts": verdicts})).read_text("utf-8"))
    assert seen.title.startswith("1 of 6 measures")
    assert "Beyond the null: learning, antisymmetric." in seen.text
    assert seen.text.count("as decided") == len(verdicts["rotation"])


@pytest.mark.slow
def test_of_a_real_study_every_world_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The lab as it is, for a shorter time: it is looked at step by step.
    monkeypatch.setattr(study, "assay", partial(assay, individuals=32, steps=150, settling=50))
    small = World1(width=32, capacity=128, founders=32, minimum=8, food_influx=2.0, sources=2)
    found = study.study_world1(tmp_path, settings=small, worlds=4, controls=4, blind=4, steps=200, seed=3)
    seen = Page(write_study_report(tmp_path).read_text("utf-8"))
    assert json.loads((tmp_path / "study.json").read_text("utf-8"))["study"] == "v1"
    for arm, of in found["arms"].items():
        for world in of["worlds"]:
            decided, lived = seen.rows_of(f"{arm} {world['world']}")
            assert decided[1].startswith(("yes", "no"))
            assert lived[-1] == str(world["living"])
    assert seen.title.startswith(
        f"Chemotaxis evolved in {found['decisions']['passed']['evolved'] or 'none'} of 4"
    )
    assert all(found["arms"][arm]["hash"] in seen.text for arm in found["arms"])


def test_hashes_of_the_fixtures_differ() -> None:
    assert (
        len({run_hash(name)[:12] for name in ("evolved", "scrambled", "blind", "populations", "followed")})
        == 5
    )
