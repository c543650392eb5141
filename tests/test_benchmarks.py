"""The figures of the README and the docs are where `benchmarks/figures.py` looks for them, and are judged as it says.

Nothing is measured here.
"""

import json
import re
import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.append(str(Path(__file__).parents[1] / "benchmarks"))

import figures
import scale
import simulators
from _documented import Figure, Measured, Place, Said, read, said, significant, times
from _places import CLUSTER, PEERS, PLACES, WORKS, absolute, by_the_wall

ROOT = Path(__file__).parents[1]
XEON = {"cpu": "Intel Xeon", "avx512": True, "cores": 2, "load": 0.0, "busy": 0.0}
FIGURE = Figure("speed", "simulators", lambda results: results["speed"], tolerance=0.15)


def documented_rates() -> dict[str, Any]:
    """Results of the simulators that are what the documents say."""
    values = {one.figure.name: one.value for one in said(PLACES)}
    systems = {"fairyring": "fairyring", **PEERS}
    return {
        "machine": XEON,
        "works": {
            work: {
                system: [{"examples_per_second": values[f"{label}, {name}, examples/s"]}]
                for system, name in systems.items()
            }
            for label, work in WORKS.items()
        },
    }


@pytest.mark.parametrize("place", PLACES, ids=lambda place: f"{place.file}: {place.text[:60]}")
def test_every_figure_is_found_exactly_once(place: Place) -> None:
    """Where this fails, the document was rewritten: rewrite the place in `benchmarks/_places.py`."""
    assert len(place.find(read(place.file))) == len(place.figures)


@pytest.mark.parametrize("file", sorted({place.file for place in PLACES}))
def test_no_row_of_a_table_is_left_out(file: str) -> None:
    """A table of which one row is checked is checked as a whole, but for its head."""
    lines = read(file).splitlines()
    known = {one.line for one in said(place for place in PLACES if place.file == file)}
    block: list[int] = []
    for number, line in enumerate([*lines, ""], 1):
        if line.startswith("|"):
            block.append(number)
            continue
        if known & set(block):
            assert [lines[row - 1] for row in block[2:] if row not in known] == []
        block = []


def test_every_ratio_in_a_table_of_speed_is_a_figure() -> None:
    known = {(one.file, one.line) for one in said(PLACES)}
    for file in ("README.md", "docs/comparison.md", "docs/cluster.md"):
        rows = [
            number
            for number, line in enumerate(read(file).splitlines(), 1)
            if re.search(r"^\|.*\dx\)? \|", line)
        ]
        assert rows
        assert [row for row in rows if (file, row) not in known] == []


@pytest.mark.parametrize("times", [0, 2])
def test_a_figure_that_is_not_found_once_is_an_error_that_names_it(times: int) -> None:
    place, row = Place("README.md", "| lr | # | # (#x) |", (FIGURE,) * 3), "| lr | 2,000 | 800 (2.5x) |\n"
    assert [one.value for one in place.find(row)] == [2000, 800, 2.5]
    with pytest.raises(LookupError, match=rf"README.md: '\| lr \| # \| # \(#x\) \|' is found {times} times"):
        place.find(times * row)


def test_a_piece_of_text_is_found_whatever_its_lines_break_at() -> None:
    (found,) = Place("docs", "a round takes # ms on a core", (FIGURE,)).find(
        "A\na round\ntakes 1,967.5 ms on\na core."
    )
    assert (found.value, found.rounding, found.line) == (1967.5, 0.05, 3)


def test_every_figure_has_a_benchmark() -> None:
    parts = {one.figure.part for one in said(PLACES)}
    assert parts == set(figures.PARTS)
    assert [part for part in parts if not (ROOT / "benchmarks" / f"{part}.py").is_file()] == []
    assert set(PEERS) == set(simulators.ENVIRONMENT)
    assert set(WORKS.values()) == set(simulators.WORKS)


def test_numbers_are_written_as_in_the_documents() -> None:
    assert [significant(value, 3) for value in (334_567, 88_149, 3229.6, 626.4, 9.999)] == [
        "335,000",
        "88,100",
        "3,230",
        "626",
        "10.0",
    ]
    assert [times(value) for value in (1.854, 9.96, 103.7, 1932)] == ["1.9", "10", "104", "1,930"]


@pytest.mark.parametrize(
    ("measured", "verdict"),
    [
        ((2.25, 2.25, 2.25), figures.HOLDS),
        ((1.75, 1.75, 1.75), figures.HOLDS),
        ((2.5, 2.5, 2.5), figures.LOST),
        ((1.6, 1.6, 1.6), figures.LOST),
        ((2.5, 1.9, 2.7), figures.UNCLEAR),
        ((2.5, 2.2, 2.7), figures.LOST),
    ],
)
def test_a_figure_holds_within_its_tolerance(measured: tuple[float, float, float], verdict: str) -> None:
    one = Said(FIGURE, 2.0, 0.05, "README.md", 1, (0, 1))
    assert figures.judge(one, {"machine": XEON, "speed": Measured(*measured)}).verdict == verdict


def test_a_figure_of_one_machine_is_judged_on_that_machine_only() -> None:
    rate = absolute(FIGURE)
    one, speed = Said(rate, 2.0, 0.05, "README.md", 1, (0, 1)), Measured(9.0, 9.0, 9.0)

    def verdict(**machine: Any) -> str:
        return figures.judge(one, {"machine": XEON | machine, "speed": speed}).verdict

    assert verdict() == figures.LOST
    for other in ({"cores": 4}, {"avx512": False}, {"cpu": "AMD EPYC"}):
        assert verdict(**other) == "not judged: another machine"
    for others in ({"busy": 1.0}, {"busy": None, "load": 1.0}):
        assert verdict(**others) == "not judged: the machine was busy"


def test_a_ratio_of_times_by_the_wall_is_judged_on_a_quiet_machine_only() -> None:
    one = Said(by_the_wall(FIGURE), 2.0, 0.05, "README.md", 1, (0, 1))
    results = {"machine": XEON | {"cores": 64}, "speed": Measured(9.0, 9.0, 9.0)}
    assert figures.judge(one, results).verdict == figures.LOST
    results["machine"] |= {"busy": 1.0}
    assert figures.judge(one, results).verdict == "not judged: the machine was busy"
    assert figures.judge(one._replace(figure=FIGURE), results).verdict == figures.LOST


def compared(monkeypatch: pytest.MonkeyPatch, folder: Path, results: dict[str, Any]) -> int:
    kept = folder / "kept.json"
    kept.write_text(json.dumps({"simulators": results}))
    monkeypatch.setattr(sys, "argv", ["figures.py", "--only", "simulators", "--from", str(kept)])
    return figures.main()


def test_the_table_is_printed_as_the_readme_has_it(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert compared(monkeypatch, tmp_path, documented_rates()) == 0
    printed = capsys.readouterr().out
    table = [
        line
        for line in read("README.md").splitlines()
        if re.match(r"\| (work \| fairy|logistic|2NN|CNN)", line)
    ]
    assert len(table) == 5
    # Documented rates are rounded, so the ratio of two of them may differ in its last digit.
    ratio = re.compile(r"\([\d.]+x\)")
    assert ratio.sub("", "\n".join(table[:1])) in printed
    assert [line for line in table if ratio.sub("", line) not in ratio.sub("", printed)] == []


def test_figures_of_a_cluster_are_judged_by_their_turns() -> None:
    """Results as `scale.py` keeps them."""
    places = {one.figure.name: one for one in said(PLACES) if one.figure.part == "scale"}
    assert len(places) == 3 * len(CLUSTER) + 1
    assert set(CLUSTER.values()) <= set(scale.WORKS)
    works = {}
    for label, work in CLUSTER.items():
        here, ray = (places[f"{label}, {way}, ms"].value for way in ("here", "ray"))
        turns = [{"here": here, "ray": ray}, {"here": here, "ray": 2 * ray}]
        longer = places[f"{label}, on Ray, ratio"].value
        works[work] = {"milliseconds": turns[0], "ratio": longer, "turns": turns}
    results = {"machine": XEON, "works": works}
    assert {figures.judge(one, results).verdict for one in places.values()} == {figures.HOLDS}
    ratio = places["the CNN C2, 50 clients, on Ray, ratio"]
    works["C2, 50 clients"]["ratio"] = 1.5 * ratio.value
    assert figures.judge(ratio, results).verdict == figures.UNCLEAR
    del works["C2, 50 clients"]["turns"][1]
    assert figures.judge(ratio, results).verdict == figures.LOST
    del works["C2, 50 clients"]
    assert figures.judge(ratio, results).verdict.startswith("not measured: scale gave nothing")


def test_what_no_longer_holds_is_said_with_its_place(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    results = documented_rates()
    results["works"]["c2"]["flower"][0]["examples_per_second"] *= 2
    results["works"]["c1"]["pfl"] = []  # not installed
    assert compared(monkeypatch, tmp_path, results) == 1
    printed = capsys.readouterr().out.splitlines()
    line = next(
        n for n, text in enumerate(read("README.md").splitlines(), 1) if "CNN C2" in text and "x)" in text
    )
    assert [
        text
        for text in printed
        if text.startswith(f"README.md:{line} ") and "Flower, ratio" in text and figures.LOST in text
    ]
    assert [text for text in printed if "not measured: simulators has no turn of pfl on c1" in text]
