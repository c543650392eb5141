"""The benchmarks of the source tree. Each is a file that answers one question and prints a table."""

import ast
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import fairyring
from fairyring.cli._terminal import screen
from fairyring.core.errors import FairyringError


def bench(name: str | None, arguments: Sequence[str] = ()) -> int:
    """List the benchmarks, or run the one with this name. Returns its exit status."""
    folder = _folder()
    benchmarks = {path.stem: path for path in sorted(folder.glob("*.py")) if not path.stem.startswith("_")}
    if name is None:
        _list(benchmarks)
        return 0
    if name not in benchmarks:
        raise FairyringError(
            "benchmark",
            given=repr(name),
            expected=f"one of {', '.join(benchmarks) or 'none'}",
            do="Choose one of these.",
        )
    return subprocess.run([sys.executable, str(benchmarks[name]), *arguments], check=False).returncode


def _list(benchmarks: dict[str, Path]) -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    table.add_column("benchmark", no_wrap=True)
    table.add_column("question", overflow="fold")
    for name, path in benchmarks.items():
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
        expected="the source tree, which has the benchmarks",
        do="Clone the repository, run `pip install -e .` in it, and run this command again.",
    )
