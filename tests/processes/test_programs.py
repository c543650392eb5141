"""What the tests rest on: programs that are kept are the programs that were compiled, in this process and in others."""

import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from tests import selection
from tests.processes import fairyring_test_programs as programs

X = np.random.default_rng(0).normal(size=(64, 48)).astype(np.float32)


def program(x: jax.Array) -> jax.Array:
    return jnp.tanh(x @ x.T).sum(axis=0) / jnp.linalg.norm(x)


def result() -> bytes:
    return np.asarray(jax.jit(program)(X)).tobytes()


def entries(folder: Path) -> set[str]:
    return {path.name for path in folder.glob("jit_program-*-cache")}


@pytest.mark.parametrize("compiler", ["quick", "optimised"])
def test_a_kept_program_gives_the_same_bits(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.COMPILER, compiler)
    loaded: list[float] = []

    def listen(event: str, duration_secs: float, **_: str | int) -> None:
        if event.endswith("cache_retrieval_time_sec"):
            loaded.append(duration_secs)

    jax.monitoring.register_event_duration_secs_listener(listen)
    try:
        with programs.kept_in(None):
            compiled = result()
        assert not loaded
        with programs.kept_in(str(tmp_path)):
            assert result() == compiled
            assert len(entries(tmp_path)) == 1
            before = len(loaded)
            jax.clear_caches()
            assert result() == compiled
            assert len(loaded) > before
    finally:
        jax.monitoring.unregister_event_duration_listener(listen)


def test_the_two_compilers_programs_are_told_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    found = {}
    for compiler in ("quick", "optimised"):
        monkeypatch.setenv(programs.COMPILER, compiler)
        with programs.kept_in(str(tmp_path)):
            found[compiler] = np.frombuffer(result(), np.float32)
    assert len(entries(tmp_path)) == 2
    np.testing.assert_allclose(found["quick"], found["optimised"], rtol=0, atol=1e-4)


@pytest.mark.parametrize("compiler", ["quick", "optimised"])
def test_a_process_that_a_test_starts_finds_them_and_leaves_its_own(
    compiler: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.COMPILER, compiler)
    monkeypatch.setenv("JAX_COMPILATION_CACHE_DIR", str(tmp_path))
    code = "import sys; from tests.processes.test_programs import result; sys.stdout.write(result().hex())"

    def child() -> bytes:
        run = subprocess.run(
            [sys.executable, "-c", code], cwd=selection.ROOT, capture_output=True, text=True, check=True
        )
        return bytes.fromhex(run.stdout)

    bits = child()
    (entry,) = entries(tmp_path)
    written = (tmp_path / entry).stat().st_ino
    with programs.kept_in(str(tmp_path)):
        assert result() == bits
    assert child() == bits
    assert entries(tmp_path) == {entry}
    assert (tmp_path / entry).stat().st_ino == written


def test_an_entry_is_there_whole_or_not_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    from jax._src.lru_cache import LRUCache

    cache = LRUCache(str(tmp_path), max_size=-1)
    with monkeypatch.context() as patch:
        patch.setattr(os, "replace", killed)
        with pytest.raises(KeyboardInterrupt):
            cache.put("one", b"half")
    assert cache.get("one") is None
    cache.put("one", b"whole")
    cache.put("one", b"another")
    assert cache.get("one") == b"whole"


def test_what_nobody_asks_for_is_forgotten(tmp_path: Path) -> None:
    from jax._src.lru_cache import LRUCache

    cache = LRUCache(str(tmp_path), max_size=-1)
    for key in ("used", "unused"):
        cache.put(key, b"program")
        os.utime(tmp_path / f"{key}-cache", (0, 0))
    assert cache.get("used") == b"program"
    programs.forget(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["used-cache"]


def test_another_processor_has_another_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    here = programs.folder(tmp_path)
    assert programs.folder(tmp_path) == here
    monkeypatch.setattr(programs, "processor", lambda: "another")
    assert programs.folder(tmp_path) != here


def test_what_is_unloaded_is_not_used_again() -> None:
    """A world's program is kept by the package: the quick compiler's must not serve where bits are the point."""
    from fairyring.ecology.history import running
    from tests.ecology.worlds import FIRST

    structure = FIRST.structure()
    before = running.compiled(structure, FIRST.capacity, 1)
    assert running.compiled(structure, FIRST.capacity, 1) is before
    programs.unload()
    assert running.compiled(structure, FIRST.capacity, 1) is not before


def test_what_plans_keep_is_unloaded_too() -> None:
    """A plan at the top of a module stays, and so would its programs: then there is never room again."""
    from fairyring.core.program import kept

    plan = SimpleNamespace()
    made = [kept(plan, "its program", object) for _ in range(2)]
    assert made[0] is made[1]
    programs.unload()
    assert kept(plan, "its program", object) is not made[0]


def test_a_command_keeps_its_programs_where_the_tests_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(programs.FOLDER, str(tmp_path))
    names = "JAX_COMPILATION_CACHE_DIR", programs.COMPILER
    code = f"import os; print(*(os.environ[name] for name in {names}))"
    command = [sys.executable, programs.__file__, sys.executable, "-c", code]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    assert run.stdout.split() == [str(programs.folder(tmp_path)), "optimised"]


def test_successive_commits_run_the_whole_of_a_campaign(monkeypatch: pytest.MonkeyPatch) -> None:
    parts = set()
    for commits in range(117, 129):
        monkeypatch.setattr(selection, "_commits", lambda commits=commits: commits)
        parts.add(selection.turn(12))
    assert parts == set(range(12))


def test_successive_commits_run_every_case(monkeypatch: pytest.MonkeyPatch) -> None:
    cases = [*"abbcdea"]
    for parts in (1, 2, 3, 9):
        run: set[str] = set()
        for commits in range(117, 117 + min(parts, 5)):
            monkeypatch.setattr(selection, "_commits", lambda commits=commits: commits)
            now = [case for case, keep in zip(cases, selection.dealt(cases, parts), strict=True) if keep]
            assert now
            assert all(now.count(case) == cases.count(case) for case in now)
            assert parts == 1 or not run & {*now}
            run |= {*now}
        assert run == {*cases}


def test_every_allowed_skip_is_of_a_test_there_is() -> None:
    for name in selection.MAY_SKIP:
        file, _, test = name.partition("::")
        assert f"def {test}(" in (selection.ROOT / file).read_text("utf-8")


SKIPPING = {
    "a_test": "import pytest\n\ndef test_it():\n    pytest.skip('no browser')\n",
    "a_module": "import pytest\npytest.skip('no browser', allow_module_level=True)\n",
    "nothing": "def test_it():\n    pass\n",
    "a_known_failure": "import pytest\n\ndef test_it():\n    pytest.xfail('known')\n",
}


@pytest.mark.parametrize(
    ("options", "counts"),
    [([], "1 passed, 2 skipped, 1 xfailed"), (["--no-skips"], "1 failed, 1 passed, 1 xfailed, 1 error")],
    ids=["allowed", "forbidden"],
)
def test_a_skip_fails_where_none_is_allowed(options: list[str], counts: str, tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    for name in ("__init__.py", "conftest.py", "selection.py", "processes"):
        (tmp_path / "tests" / name).symlink_to(selection.ROOT / "tests" / name)
    (tmp_path / "pyproject.toml").symlink_to(selection.ROOT / "pyproject.toml")
    paths = []
    for name, text in SKIPPING.items():
        paths.append(f"tests/test_{name}.py")
        (tmp_path / paths[-1]).write_text(text)
    # Without the summary: where the variable CI is set, it repeats each reason in full.
    command = [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", "-rN", *options]
    command += ["--continue-on-collection-errors", *paths]
    run = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=False)
    assert counts in run.stdout
    assert (run.returncode != 0) == bool(options)
    assert run.stdout.count("does not allow it") == (2 if options else 0)
