"""What the docs say of the code is so: the glossary's names exist, terms in bold are in it, the API page is complete."""

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import fairyring
from tests.processes.fairyring_test_programs import as_users

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
GLOSSARY = (DOCS / "glossary.md").read_text("utf-8")
# name -> its definition, with where the code has it
TERMS = {
    name: body
    for block in re.findall(r"```\{glossary\}\n(.*?)```", GLOSSARY, re.DOTALL)
    for name, body in re.findall(r"^(\S.*)\n((?:  .*\n)+)", block, re.MULTILINE)
}
CITED = sorted({name for body in TERMS.values() for name in re.findall(r"`(fairyring\.[^`]+)`", body)})
# The front doors whose every name is on the API page, beside fairyring's own.
DOORS = (
    "aggregation",
    "ecology",
    "privacy",
    "secagg",
    "statistics",
    "tracking",
    "ecology.analysis",
    "ecology.dynamics",
)


def found(name: str) -> object:
    """What a dotted name stands for: a module, an object, a field of a class, or (`name(argument)`) an argument."""
    name, _, argument = name.removesuffix(")").partition("(")
    parts, value = name.split(".")[1:], fairyring
    for place, part in enumerate(parts, 1):
        fields = {*getattr(value, "__dataclass_fields__", ()), *getattr(value, "__annotations__", ())}
        fields |= set(inspect.signature(value).parameters) if inspect.isclass(value) else set()
        if hasattr(value, part):
            value = getattr(value, part)
        elif part in fields:
            assert place == len(parts), f"{name}: a field has no parts of its own"
            value = part
        else:
            value = importlib.import_module(".".join(["fairyring", *parts[:place]]))
    assert not argument or argument in inspect.signature(value).parameters, f"{name} takes no {argument}"
    return value


def test_the_glossary_says_of_every_term_where_the_code_has_it() -> None:
    assert len(TERMS) > 80
    assert [
        term for term, body in TERMS.items() if not re.search(r"^  In code: `fairyring\.", body, re.M)
    ] == []


@pytest.mark.parametrize("name", CITED)
def test_a_name_in_the_glossary_is_in_the_code(name: str) -> None:
    found(name)  # raises where it is not


def test_a_name_that_is_not_in_the_code_is_noticed() -> None:
    for name in ("fairyring.Plan.recipe", "fairyring.aggregation.Recipe", "fairyring.simulate(recipe)"):
        with pytest.raises((ImportError, AssertionError)):
            found(name)


def test_a_term_in_bold_is_in_the_glossary() -> None:
    """In the pages that define terms; what else stands in bold there is a whole sentence, or in capitals."""
    known = {form for term in TERMS for form in (term, f"{term}s", term.removesuffix("s"))}
    pages = [ROOT / "ARCHITECTURE.md", DOCS / "concepts.md", *sorted(DOCS.glob("extend*.md"))]
    parties = (DOCS / "secure_aggregation.md").read_text("utf-8").partition("## The parties")[2]
    text = "\n".join([*(page.read_text("utf-8") for page in pages), parties.partition("\n## ")[0]])
    bold = {
        " ".join(words.split()).lower()
        for words in re.findall(r"\*\*([A-Za-z][A-Za-z -]*)\*\*", text)
        if len(words.split()) <= 3
    }
    assert len(bold) > 10
    assert sorted(bold - known - {"sum"}) == []


def test_links_from_the_pages_at_the_root_lead_somewhere() -> None:
    """Those of `docs` are Sphinx's to check."""
    links = [
        (page, target, anchor)
        for page in ROOT.glob("*.md")
        for target, anchor in re.findall(r"\]\((?!https?:)([^)#\s]+)(?:#([^)]*))?\)", page.read_text("utf-8"))
    ]
    assert len(links) > 10
    for page, target, anchor in links:
        assert (ROOT / target).exists(), f"{page.name} links to {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", (ROOT / target).read_text("utf-8"), re.MULTILINE)
            slugs = {
                re.sub(r"[^\w -]", "", heading).strip().lower().replace(" ", "-") for heading in headings
            }
            assert anchor in slugs, f"{page.name} links to {target}#{anchor}"


def listed(page: str) -> set[str]:
    """The names with their modules that autodoc is told of."""
    names, module = set(), ""
    for kind, name in re.findall(r"^\.\. (currentmodule|auto\w+):: (\S+)", page, re.MULTILINE):
        module = name if kind == "currentmodule" else module
        whole = kind in ("currentmodule", "automodule") or name.startswith("fairyring.")
        names.add(name if whole else f"{module}.{name}")
    return names


@pytest.mark.parametrize("door", DOORS)
def test_the_api_page_has_every_name_of_a_front_door(door: str) -> None:
    room = importlib.import_module(f"fairyring.{door}")
    page = (DOCS / "api.md").read_text("utf-8")
    names = listed(page)
    if f"automodule:: {room.__name__}\n   :members:" in page:
        return  # all that is in it
    missing = []
    for name in (name for name in room.__all__ if callable(getattr(room, name))):
        public = getattr(fairyring, name, None) if name in fairyring.__all__ else None
        entry = f"fairyring.{name}" if public is getattr(room, name) else f"{room.__name__}.{name}"
        missing += [name] if entry not in names else []
    assert sorted(missing) == []


def test_every_public_name_is_documented_on_the_api_page() -> None:
    """As an entry of autodoc's, not only by its name; a module by its own entry."""
    names = listed((DOCS / "api.md").read_text("utf-8"))
    missing = []
    for name in set(fairyring.__all__) - {"__version__"}:
        value = getattr(fairyring, name)
        entry = value.__name__ if inspect.ismodule(value) else f"fairyring.{name}"
        missing += [name] if entry not in names else []
    assert sorted(missing) == []


def test_the_changelog_names_the_versions_of_today() -> None:
    from fairyring.ecology.history.run_file import FORMAT
    from fairyring.learning.document import VERSION

    text = (ROOT / "CHANGELOG.md").read_text("utf-8")
    assert f"`src/fairyring/_version.py`: {fairyring.__version__}," in text
    rows = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert f"now {VERSION} |" in rows["the plan document"]
    assert f"now {VERSION} |" in rows["a run folder"]
    assert f"now {FORMAT} |" in rows["a run file of the ecology (`.eco`)"]


@pytest.mark.slow
def test_the_quickstart_runs_as_it_is_printed(tmp_path: Path) -> None:
    for needed in ("sklearn", "matplotlib"):
        pytest.importorskip(needed)
    readme = (ROOT / "README.md").read_text("utf-8")
    code = re.findall(r"```python\n(.*?)```", readme, re.DOTALL)[0]
    ran = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path,
        env=as_users()
        | {"PYTHONPATH": os.pathsep.join([str(ROOT / "src"), os.environ.get("PYTHONPATH", "")])},
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert ran.returncode == 0, ran.stderr
    said = [float(number) for number in re.findall(r"\d\.\d+", readme.partition("It prints")[2])[:2]]
    printed = [float(number) for number in re.findall(r"\d\.\d+", ran.stdout)]
    assert printed == pytest.approx(said, abs=0.03), ran.stdout
    assert (tmp_path / "runs" / "digits" / "report.html").is_file()
