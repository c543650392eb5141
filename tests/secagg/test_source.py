"""Where randomness comes from: the source of the room, read."""

import ast
from pathlib import Path

import pytest

import fairyring

ROOM = Path(fairyring.__file__).parent / "secagg"
SOURCES = sorted(ROOM.glob("*.py"))
GENERATORS = {"random", "uuid", "jax"}
NAMES_OF_NUMPY = {"np", "numpy"}


def entropy(tree: ast.AST) -> list[str]:
    """Every way a module names to come by randomness or time, but for an argument's default."""
    defaults = {
        id(default)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        for default in [*node.args.defaults, *node.args.kw_defaults]
        if default is not None
    }
    result = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            result += [alias.name for alias in node.names if alias.name.split(".")[0] in GENERATORS]
            result += [
                alias.name for alias in node.names if alias.name in ("numpy.random", "secrets", "time")
            ]
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            names = {alias.name for alias in node.names}
            if module.split(".")[0] in GENERATORS or module in ("numpy.random", "secrets", "time"):
                result.append(module)
            if module == "numpy" and "random" in names:
                result.append("numpy.random")
            if module == "os" and names & {"urandom", "getrandom"}:
                result.append("os")
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
            name = f"{node.value.id}.{node.attr}"
            if node.value.id in NAMES_OF_NUMPY and node.attr == "random":
                result.append(name)
            if name in ("os.urandom", "os.getrandom") and id(node) not in defaults:
                result.append(name)
        if isinstance(node, ast.Constant) and node.value in ("random", "numpy.random"):
            result.append(f"{node.value!r}")  # a name to be imported by
    return result


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: path.name)
def test_no_statistical_generator_and_no_hidden_entropy(path: Path) -> None:
    assert entropy(ast.parse(path.read_text("utf-8"))) == []


@pytest.mark.parametrize(
    "code",
    [
        "import random",
        "from random import randrange",
        "import numpy.random",
        "import numpy.random as r",
        "from numpy import random",
        "from numpy.random import default_rng",
        "import numpy as np\nx = np.random.rand()",
        "import os\ndef f(): return os.urandom(3)",
        "from os import urandom",
        "import secrets",
        "import jax.random",
        "import importlib\nimportlib.import_module('random')",
        "import uuid",
    ],
)
def test_the_reading_finds_each_way(code: str) -> None:
    assert entropy(ast.parse(code)) != []


def test_entropy_as_an_argument_is_allowed() -> None:
    assert entropy(ast.parse("import os\ndef f(*, entropy=os.urandom): return entropy(3)")) == []


def test_the_whole_room_was_read() -> None:
    assert {path.stem for path in SOURCES} >= {"device", "server", "keystream", "shamir", "graph", "messages"}


def test_identities_come_from_the_operating_system() -> None:
    from fairyring.secagg import Identity

    assert len({Identity.generate().private_bytes() for _ in range(20)}) == 20
