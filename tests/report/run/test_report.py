"""The report says what the run folder says, stands alone, and copes with every part that may be missing."""

import builtins
import json
import re
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from fairyring.core.errors import MissingExtra, RunDamaged, RunError, StorageError
from fairyring.report import write_report
from fairyring.report.kit import units

from .run_folders import make_run_folder, several_tests

SECTIONS = ["learning", "clients", "participation", "traffic", "pace", "plan", "assumptions", "provenance"]
VOID = {"meta", "link", "br", "img", "hr", "input"}


class Page(HTMLParser):
    """Parses strictly: every tag must be closed by its own, in order."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.tags: set[str] = set()
        self.words: list[str] = []
        self.feed(text)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        if tag not in VOID:
            self.open.append(tag)
        for name, value in attrs:
            if name == "id":
                self.ids.append(value or "")
            if name in ("src", "href", "action", "srcset", "data") or name.endswith(":href"):
                self.links.append(value or "")

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.handle_starttag(tag, attrs)
        if tag not in VOID:
            self.open.pop()

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if self.open and self.open[-1] not in ("style",):
            self.words.append(data)

    @property
    def text(self) -> str:
        return re.sub(r"\s+", " ", "".join(self.words))


def report_of(folder: Path) -> tuple[str, Page]:
    text = write_report(folder).read_text("utf-8")
    return text, Page(text)


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, str, Page]:
    folder = make_run_folder(tmp_path_factory.mktemp("runs") / "digits")
    return (folder, *report_of(folder))


def test_holds_every_section_in_order(finished: tuple[Path, str, Page]) -> None:
    _, text, _page = finished
    places = [text.index(f'<section id="{name}">') for name in SECTIONS]
    assert places == sorted(places)
    assert text.count("<svg ") == 10  # nine figures and the mark


def test_ids_are_unique_and_every_local_link_has_its_target(finished: tuple[Path, str, Page]) -> None:
    _, text, page = finished
    assert len(set(page.ids)) == len(page.ids)
    targets = {link[1:] for link in page.links if link.startswith("#")} | set(
        re.findall(r"url\(#([^)]+)\)", text)
    )
    assert targets
    assert targets <= set(page.ids)


def test_loads_nothing(finished: tuple[Path, str, Page]) -> None:
    _, text, page = finished
    assert "http:" not in text
    assert "https:" not in text
    assert "@import" not in text
    assert not page.tags & {"script", "iframe", "img", "object", "embed"}
    assert all(link.startswith(("#", "data:")) for link in page.links)
    assert not re.search(r"url\((?!#)", text)


def test_numbers_are_those_of_the_folder(finished: tuple[Path, str, Page]) -> None:
    folder, _, page = finished
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    arrays = load_file(folder / "clients.safetensors")
    accuracy = np.sort(arrays["test.metrics.accuracy"].astype(np.float64))
    up, down = (sum(r[c] for r in records) / 2**20 for c in ("bytes_up", "bytes_down"))
    expected = [
        f"{100 * records[-1]['test']['metrics']['accuracy']:.1f} % accuracy on held-out data after 60 rounds",
        f"the 10 clients it serves worst, get {100 * accuracy[:10].mean():.1f} % on average",
        f"{100 * accuracy.mean():.1f} % on average with every client counting the same",
        f"{100 * np.average(arrays['test.metrics.accuracy'], weights=arrays['test.examples']):.1f} % with every example",
        f"the median is {100 * np.median(accuracy):.1f} %",
        f"Clients received {down:.0f} MiB and sent {up:.0f} MiB in all",
        f"one report takes {222_848 / 2**10:.0f} KiB",
        f"{arrays['participation'].min()} to {arrays['participation'].max()}",
        f"{sum(r['sampled'] for r in records)} clients were asked",
        f"{sum(r['dropped'] for r in records)} of them",
        f"{sum(r['clients'] for r in records) / sum(r['seconds'] for r in records):.0f} clients",
        "4f1c09a77be2d5e3",
        "local.batch_size",
        "weight_by_examples(), clip(10.0)",
        "2 clients without examples were left out",
        "No noise was added",
    ]
    missing = [words for words in expected if words not in page.text]
    assert not missing


def test_the_plan_is_shown_field_by_field(finished: tuple[Path, str, Page]) -> None:
    _, text, _ = finished
    shown = dict(re.findall(r'<th scope="row">([^<]*)</th><td>([^<]*)</td>', text.replace("\u00a0", " ")))
    expected = {
        "local.epochs": "1",
        "local.shuffle": "yes",
        "local.optimizer": "sgd(0.1)",
        "cohort": "10",
        "dropout": "0.05",
        "privacy": "none",
        "bytes_up": "218 KiB",
    }
    assert {name: shown[name] for name in expected} == expected


def test_every_round_is_in_the_table(finished: tuple[Path, str, Page]) -> None:
    folder, text, _ = finished
    table = text[text.index('<table class="rounds">') :]
    rows = re.findall(r"<tr>(<td>.*?)</tr>", table[: table.index("</table>")])
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    assert len(rows) == len(records)
    for row, record in zip(rows, records, strict=True):
        assert row.startswith(f"<td>{record['round']}</td><td>{record['clients']}</td>")
        assert f"{100 * record['metrics']['accuracy']:.1f}" in row


def test_same_folder_same_bytes(finished: tuple[Path, str, Page]) -> None:
    folder, text, _ = finished
    assert write_report(folder).read_text("utf-8") == text


def test_names_from_a_run_are_text_and_never_markup(tmp_path: Path) -> None:
    attack = '"><script>alert(1)</script><img src=x onerror=alert(2)>'
    folder = make_run_folder(
        tmp_path / "run",
        rounds=4,
        plan={"task": {"name": attack}, attack: attack},
        run={
            "seed": attack,
            "assumptions": [{"kind": attack, "title": attack, "text": attack}],
            "fairyring": attack,
        },
    )
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text().replace('"accuracy"', json.dumps(attack)))
    text, page = report_of(folder)
    assert "<script" not in text
    assert "<img" not in text
    assert "script" not in page.tags
    assert "&lt;script&gt;" in text


def test_each_of_several_test_populations_is_told(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=10)
    several_tests(folder, ["here", "there <b>", "abroad"], ["accuracy", "auc"])
    text, page = report_of(folder)
    last = json.loads((folder / "metrics.jsonl").read_text().splitlines()[-1])["tests"]
    for name, means in last.items():
        assert f"{units.share(means['metrics']['accuracy'])} on {name}" in page.text
        assert f"{name}{units.share(means['metrics']['accuracy'])}" in page.text  # a row of the table
    assert "at round 10, on here" in page.text
    assert "AUC" in page.text
    assert text.count('<section id="populations">') == 1
    assert 'id="populations"' not in report_of(make_run_folder(tmp_path / "one", rounds=10))[0]


def test_what_a_clip_cut_is_drawn_and_what_the_run_said_of_it_is_a_note(tmp_path: Path) -> None:
    said = "In rounds 1 to 3 clip(0.01) cut <nearly> all."
    folder = make_run_folder(tmp_path / "run", rounds=4, run={"cautions": [said]})
    text, _ = report_of(folder)
    assert "Clipped updates" not in text
    assert '<p class="note">In rounds 1 to 3 clip(0.01) cut &lt;nearly&gt; all.</p>' in text
    records = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines = [json.dumps(one | {"clipped": 0.9, "update_norm": 3.25}) for one in records]
    (folder / "metrics.jsonl").write_text("".join(f"{line}\n" for line in lines))
    _, page = report_of(folder)
    assert (
        "Last: 90.0 % of the updates were cut by the clip; half of them were longer than 3.25 before."
        in page.text
    )


def test_a_run_that_failed_is_not_told_by_what_it_had_learned(tmp_path: Path) -> None:
    run = {"status": "failed", "failed_by": "training diverged", "rounds": 8}
    text, page = report_of(make_run_folder(tmp_path / "run", rounds=1, run=run))
    assert "<h1>Failed after 1 of 8 rounds: training diverged</h1>" in text
    assert "This run failed (training diverged): 1 of 8 rounds is recorded." in page.text
    assert "Lower the learning rate" in page.text
    assert 'aria-label="Time a round"' not in text  # one point is no picture


def test_an_unfinished_run_says_how_far_it_got(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=7, run={"status": "running", "rounds": 100})
    (folder / "clients.safetensors").unlink()
    _, page = report_of(folder)
    assert "had not finished when this report was made: 7 of 100 rounds" in page.text
    assert "no evaluation per client yet" in page.text
    assert "Participation is counted when a run ends" in page.text


def test_a_run_without_evaluation_shows_training_only(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=6, test_clients=0)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    for record in lines:
        record.pop("test", None)
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    _, page = report_of(folder)
    assert "has not been evaluated on held-out data" in page.text
    assert f"{100 * lines[-1]['metrics']['accuracy']:.1f} % accuracy in training after 6 rounds" in page.text


def test_a_run_without_rounds(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=1, run={"status": "running", "seconds": None})
    (folder / "metrics.jsonl").unlink()
    (folder / "clients.safetensors").unlink()
    _, page = report_of(folder)
    assert "No round has finished yet" in page.text
    assert "No bytes have been recorded" in page.text
    assert [name for name in SECTIONS if name not in page.ids] == []


def test_a_gap_for_what_is_not_finite(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=12)
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    lines[4]["loss"], lines[5]["loss"], lines[5]["nonfinite"] = None, None, 3
    lines[-1]["test"]["metrics"]["accuracy"] = None
    (folder / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)))
    arrays = load_file(folder / "clients.safetensors")
    arrays["test.metrics.accuracy"][:4] = np.nan
    save_file(arrays, folder / "clients.safetensors")
    _text, page = report_of(folder)
    assert "In 2 rounds the training loss is not a finite number" in page.text
    assert "3 updates held a number that is not finite, and did not count" in page.text
    assert "After 12 rounds the accuracy is not a finite number" in page.text
    assert "4 clients without examples or without a finite accuracy are not counted" in page.text
    assert "nan" not in page.text.lower().replace("finance", "")


@pytest.mark.parametrize("name", ["plan.json", "population.json", "clients.safetensors"])
@pytest.mark.parametrize("how", ["missing", "torn"])
def test_a_missing_or_torn_part_costs_a_sentence(tmp_path: Path, name: str, how: str) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=3)
    part = folder / name
    if how == "missing":
        part.unlink()
    else:
        part.write_bytes(part.read_bytes()[:-10])
    _, page = report_of(folder)
    if how == "torn":
        assert f"{name} could not be read" in page.text
    elif name != "clients.safetensors":
        assert f"There is no {name}" in page.text
    assert [name for name in SECTIONS if name not in page.ids] == []


def test_a_torn_last_line_is_left_out(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=5)
    metrics = folder / "metrics.jsonl"
    metrics.write_text(metrics.read_text()[:-40])
    _, page = report_of(folder)
    assert "One line of metrics.jsonl could not be read" in page.text
    assert "4 of 5" in page.text


@pytest.mark.parametrize(("rounds", "clients", "test_clients"), [(1, 10, 1), (2, 10, 3), (2500, 40, 25)])
def test_small_and_long_runs(tmp_path: Path, rounds: int, clients: int, test_clients: int) -> None:
    folder = make_run_folder(
        tmp_path / "run", rounds=rounds, clients=clients, test_clients=test_clients, evaluate_every=100
    )
    text, page = report_of(folder)
    assert len(text) < 1_000_000
    assert len(re.findall(r"<tr><td>", text)) <= 102
    worst = {1: "the one client it serves worst, gets", 3: "the one client", 25: "the 2 clients"}[
        test_clients
    ]
    assert worst in page.text


def test_a_metric_to_be_small_has_its_worst_at_the_top(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=3)
    text = (folder / "metrics.jsonl").read_text().replace('"accuracy"', '"squared_error"')
    (folder / "metrics.jsonl").write_text(text)
    error = np.arange(100, dtype=np.float32)
    save_file(
        {"test.examples": np.ones(100, np.int32), "test.metrics.squared_error": error},
        folder / "clients.safetensors",
    )
    _, page = report_of(folder)
    assert "the 10 clients it serves worst, get 94.5 on average" in page.text
    assert "worst-served client is at 99, the best at 0" in page.text


def test_refuses_what_is_no_run_folder(tmp_path: Path) -> None:
    with pytest.raises(RunError, match="no such folder"):
        write_report(tmp_path / "nowhere")
    with pytest.raises(RunError, match=r"no run\.json"):
        write_report(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(RunDamaged):
        write_report(tmp_path)


def test_a_report_that_cannot_be_written_leaves_the_old_one(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=2)
    with pytest.raises(StorageError, match="expected a file that can be written"):
        write_report(folder, folder / "run.json" / "place.html")
    assert write_report(folder, tmp_path / "new" / "folder" / "report.html").is_file()
    (folder / "old").mkdir()
    with pytest.raises(StorageError):
        write_report(folder, folder / "old")
    assert sorted(p.name for p in folder.glob(".*")) == []


def test_without_matplotlib_names_the_extra(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=2)
    real = builtins.__import__

    def refuse(name: str, *args: object, **kwargs: object) -> object:
        if name.split(".")[0] == "matplotlib":
            raise ImportError(name)
        return real(name, *args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(builtins, "__import__", refuse)
    with pytest.raises(MissingExtra, match=r"fairyring\[report\]"):
        write_report(folder)
    assert not (folder / "report.html").exists()


def test_the_cores_are_those_the_run_used_and_one_example_is_one(tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "small", clients=40)
    arrays = load_file(folder / "clients.safetensors")
    save_file(arrays | {"examples": np.array([1] * 25 + [2] * 15, np.int32)}, folder / "clients.safetensors")
    text = report_of(folder)[1].text
    assert "on 1 core" in text  # of two in the machine
    assert "Half of the clients hold 1 example or fewer" in text
    several = make_run_folder(tmp_path / "several", run={"machine": {"devices": ["NVIDIA H200"] * 2}})
    assert "on 2 accelerators" in report_of(several)[1].text


def test_few_clients_are_called_by_their_names(tmp_path: Path) -> None:
    """Worst first, and as text whatever they are; what was tested stands beside what was trained on."""
    folder = make_run_folder(tmp_path / "run", rounds=5, clients=12, test_clients=4)
    names = ["<b>north</b>", "$south$", "a hospital with a very long name indeed", "west"]
    population = json.loads((folder / "population.json").read_text())
    population["ids"] = [*names, *(f"other {i}" for i in range(8))]
    population["test"]["ids"] = names
    (folder / "population.json").write_text(json.dumps(population))
    clients = load_file(folder / "clients.safetensors")
    clients["test.metrics.accuracy"] = np.array([0.75, 0.5, 1.0, 0.25], np.float32)
    clients["test.examples"] = np.array([40, 20, 30, 0], np.int32)
    save_file(clients, folder / "clients.safetensors")
    text = write_report(folder).read_text("utf-8")
    page = Page(text)
    section = text[text.index("An average hides") :]
    figure = section[: section.index("</figure>")]
    drawn = [
        figure.index(name) for name in ("$south$", "&lt;b&gt;north&lt;/b&gt;", "a hospital with a very…")
    ]
    assert drawn == sorted(drawn), "the worst-served is at the top"
    assert "west" not in figure, "nobody was tested there"
    table = page.text[page.text.index("The numbers by client") :]
    took = clients["participation"]
    loss = clients["test.loss"]
    assert f"<b>north</b>{clients['examples'][0]}{took[0]}40{units.number(float(loss[0]))}75.0 %" in table
    assert f"west{clients['examples'][3]}{took[3]}0––" in table
    assert f"other 7{clients['examples'][11]}{took[11]}–––" in table
    population["ids"] = population["test"]["ids"] = None
    (folder / "population.json").write_text(json.dumps(population))
    assert "The numbers by client" not in write_report(folder).read_text("utf-8")
