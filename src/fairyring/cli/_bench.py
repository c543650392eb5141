"""The benchmarks of the source tree. Each is a file that answers one question and prints a table."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fairyring
from fairyring.cli._result import Result
from fairyring.cli._screen import show_table
from fairyring.core.errors import FairyringError


def bench(name: str | None, arguments: Sequence[str] = ()) -> Result:
    """List the benchmarks, or run the one with this name; the exit status is then its own."""
    folder = _folder()
    benchmarks = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if name is None:
        questions = {one: _question(path) for one, path in benchmarks.items()}
        return Result(
            {"benchmarks": [{"name": one, "question": question} for one, question in questions.items()]},
            lambda: show_table(
                ["benchmark", "question"], [*questions.items()], words=("benchmark", "question")
            ),
        )
    if name not in benchmarks:
        raise FairyringError(
            "benchmark",
            given=repr(name),
            expected=f"one of {', '.join(benchmarks) or 'none'}",
            do="Choose one of these.",
        )
    status = subprocess.run([sys.executable, str(benchmarks[name]), *arguments], check=False).returncode
    return Result({"benchmark": name, "status": status}, lambda: None, status)


def _question(path: Path) -> str:
    """The first line of a benchmark's docstring."""
    return (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0]


def _folder() -> Path:
    source = Path(fairyring.__file__).resolve().parents[2]
    for folder in (source / "benchmarks", Path("benchmarks")):
        if (source / "pyproject.toml").is_file() and folder.is_dir():
            return folder
    raise FairyringError(
        "benchmarks",
        given="an installed package",
        expected="the source tree, which has the benchmarks",
        do="Clone the repository, run `pip install -e .` in it, and run this command again.",
    )
