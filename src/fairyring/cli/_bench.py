"""The benchmarks of the source tree: each a file that answers one question and prints a table."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fairyring
from fairyring.cli._terminal import screen
from fairyring.core.errors import FairyringError


def bench(name: str | None, arguments: Sequence[str] = ()) -> int:
    """List the benchmarks, or run the one of this name; returns its exit status."""
    folder = _folder()
    found = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if name is None:
        _list(found)
        return 0
    if name not in found:
        raise FairyringError(
            "benchmark",
            given=repr(name),
            expected=f"one of {', '.join(found) or 'none'}",
            do="Choose one of those.",
        )
    return subprocess.run([sys.executable, str(found[name]), *arguments], check=False).returncode


def _list(found: dict[str, Path]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    table.add_column("question", overflow="fold")
    for name, path in found.items():
        table.add_row(name, (ast.get_docstring(ast.parse(path.read_text("utf-8"))) or "").split("\n")[0])
    screen().print(table)


def _folder() -> Path:
    source = Path(fairyring.__file__).resolve().parents[2]
    for folder in (source / "benchmarks", Path("benchmarks")):
        if (source / "pyproject.toml").is_file() and folder.is_dir():
            return folder
    raise FairyringError(
        "benchmarks",
        given="an installed package",
        expected="the source tree, where the benchmarks are",
        do="Clone the repository, run `pip install -e .` in it and call this again.",
    )
