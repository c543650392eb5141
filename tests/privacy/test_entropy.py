"""Keys: one an address, none of them from a statistical generator."""

import ast
import hashlib
import hmac
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fairyring
from fairyring.core.errors import PrivacyError
from fairyring.privacy.entropy import derive, fresh, require_key, words
from fairyring.secagg.keystream import random_bytes

ROOM = Path(fairyring.__file__).parent / "privacy"
SOURCES = sorted(ROOM.rglob("*.py"))
ROOT = bytes(range(32))

addresses = st.lists(st.one_of(st.integers(), st.text(max_size=5)), max_size=4).map(tuple)


def test_fresh_keys_are_of_32_bytes_and_never_the_same() -> None:
    keys = {fresh() for _ in range(100)}
    assert len(keys) == 100
    assert {len(key) for key in keys} == {32}


def test_a_key_is_the_hmac_of_its_address() -> None:
    # Written out by hand, so that no change of the encoding goes unnoticed: kept runs depend on it.
    message = b"s" + (5).to_bytes(8, "little") + b"noise" + b"i" + (2).to_bytes(8, "little") + b"\x2c\x01"
    assert derive(ROOT, "noise", 300) == hmac.new(ROOT, message, hashlib.sha256).digest()


@given(addresses, addresses)
def test_addresses_have_the_same_key_only_if_they_are_the_same(one: tuple, other: tuple) -> None:
    assert (derive(ROOT, *one) == derive(ROOT, *other)) == (one == other)


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ((1, 23), (12, 3)),
        ((1,), ("1",)),
        (("ab", "c"), ("a", "bc")),
        (("",), ()),
        ((0,), (-1,)),
        ((255,), (-1,)),
        ((1 << 70,), (1 << 71,)),
        (("a",), ("a", "")),
    ],
)
def test_addresses_that_look_alike_have_other_keys(one: tuple, other: tuple) -> None:
    assert derive(ROOT, *one) != derive(ROOT, *other)


def test_another_root_has_other_keys_and_a_chain_is_not_a_longer_address() -> None:
    assert derive(ROOT, 1) != derive(bytes(32), 1)
    assert derive(derive(ROOT, 1), 2) != derive(ROOT, 1, 2)


def test_words_are_the_keystream_read_as_little_endian() -> None:
    assert words(ROOT, 1000).astype("<u8").tobytes() == random_bytes(ROOT, 8000)
    assert words(ROOT, 1000).dtype == np.uint64
    assert np.array_equal(words(ROOT, 10), words(ROOT, 1000)[:10])
    assert len(words(ROOT, 0)) == 0


@pytest.mark.parametrize("key", [b"", b"secret key", bytes(31), bytes(33), "k" * 32, bytearray(32), None])
def test_a_key_of_another_size_is_refused_and_not_shown(key: Any) -> None:
    uses: list[Callable] = [lambda: derive(key, 1), lambda: words(key, 1), lambda: require_key(key)]
    for use in uses:
        with pytest.raises(PrivacyError, match="32 bytes") as refused:
            use()
        assert "secret" not in str(refused.value)


def generators(tree: ast.AST) -> list[str]:
    """Every way a module names to come by random numbers other than `os.urandom`, or by the time."""
    wrong = {"random", "secrets", "uuid", "time", "numpy.random", "jax", "jax.random", "scipy.stats"}
    result: list[str] = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            result += [
                alias.name for alias in node.names if alias.name in wrong or alias.name.startswith("jax.")
            ]
        if isinstance(node, ast.ImportFrom):
            module = node.module or ""
            result += [
                f"{module}.{alias.name}"
                for alias in node.names
                if module in wrong or f"{module}.{alias.name}" in wrong or module.startswith("jax.")
            ]
        if isinstance(node, ast.Attribute) and node.attr in ("random", "rvs", "default_rng"):
            result.append(ast.unparse(node))
        if isinstance(node, ast.Constant) and node.value in wrong:
            result.append(repr(node.value))  # a name to be imported by
    return result


OURS = ["entropy", "sampling", "local", "_alias", "_laws"]


@pytest.mark.parametrize("name", OURS)
def test_no_statistical_generator_makes_noise(name: str) -> None:
    assert generators(ast.parse((ROOM / f"{name}.py").read_text("utf-8"))) == []


# What a round rounds by, where canaries push, where an attack starts and what a test of noise draws lots by are no
# secrets: addressed keys and seeds serve there.
SIMULATED = {"_grid", "_matching", "_normal_scores", "canaries", "mechanism", "membership", "reads"}


@pytest.mark.parametrize(
    "path", [path for path in SOURCES if path.stem not in SIMULATED], ids=lambda path: path.name
)
def test_no_module_of_the_room_names_a_statistical_generator(path: Path) -> None:
    result = generators(ast.parse(path.read_text("utf-8")))
    assert [name for name in result if "random" in name or "rvs" in name or "rng" in name] == []


def test_only_one_module_asks_the_operating_system() -> None:
    asking = [path.stem for path in SOURCES if "urandom" in path.read_text("utf-8")]
    assert asking == ["entropy"]


@pytest.mark.parametrize(
    "code",
    [
        "import random",
        "import numpy.random as r",
        "from numpy import random",
        "from numpy.random import default_rng",
        "import numpy as np\nx = np.random.default_rng(1)",
        "import jax\nx = jax.random.key(1)",
        "from jax import random",
        "import secrets",
        "from scipy.stats import norm",
        "import importlib\nimportlib.import_module('numpy.random')",
        "x = norm.rvs(10)",
    ],
)
def test_the_reading_finds_each_way(code: str) -> None:
    assert generators(ast.parse(code)) != []
