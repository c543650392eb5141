"""Shared by all tests: what is compiled how, how much of a campaign is run, and what may be skipped."""

import gc
import os
import shutil
import signal
from collections.abc import Callable, Generator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import jax
import pytest

from tests import selection
from tests.processes import fairyring_test_programs as programs

# How long an example takes says how busy the machine is, not whether it is right.
hypothesis.settings.register_profile("untimed", deadline=None)
hypothesis.settings.load_profile("untimed")

ALL_CORES = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set()


def _own_cores(worker: int, workers: int) -> None:
    """A worker's share of the cores: two that both use all would wait for each other, and compile for each core."""
    cores = sorted(ALL_CORES)
    if cores:
        os.sched_setaffinity(0, cores[worker::workers] or {cores[worker % len(cores)]})


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--soak", action="store_true", help="run all parts of every campaign")
    parser.addoption("--optimised", action="store_true", help="compile in every test as users do")
    parser.addoption(
        "--no-skips", action="store_true", help="a skip fails, unless tests/selection.py allows it"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Programs are compiled once, for all processes of this session and of later ones."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        # What a shell starts in the background ignores Ctrl-C, and so would all that the tests start.
        signal.signal(signal.SIGINT, signal.default_int_handler)
    gc.disable()  # until everything is imported
    given = os.environ.get(programs.FOLDER)
    folder = programs.folder(Path(given) if given else selection.ROOT / ".pytest_cache" / "programs")
    if worker := getattr(config, "workerinput", None):
        _own_cores(int(worker["workerid"].removeprefix("gw")), worker["workercount"])
    else:
        programs.forget(folder)
    programs.install()
    os.environ[programs.COMPILER] = "optimised" if config.getoption("optimised") else "quick"
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", programs.WORTH_KEEPING)
    os.environ["JAX_COMPILATION_CACHE_DIR"] = str(folder)
    os.environ["JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS"] = str(programs.WORTH_KEEPING)
    os.environ["FAIRYRING_PROGRAMS"] = "none"  # and not in the folder of whoever runs the tests
    here = str(Path(programs.__file__).parent)
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [here, os.environ.get("PYTHONPATH")]))


def pytest_collection_finish() -> None:
    """What is imported by now stays to the end: the garbage collector need not look at it again and again.

    Nor at what is traced as often as Python has it look: JAX keeps most of that.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(100_000, 20, 50)
    gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Modules of one compiler follow each other: what the other has made is let go of between them.

    The optimised come first, for they take longest: workers that run out of tests take them from the end.
    """
    named = any("::" in argument for argument in config.args)  # whoever names a case wants it
    if not (named or config.getoption("soak")):
        left_out = _not_this_commits(items)
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if item not in set(left_out)]
    items.sort(key=lambda item: item.get_closest_marker("optimised") is None)


def _not_this_commits(items: list[pytest.Item]) -> list[pytest.Item]:
    """Of the tests marked `dealt`, the cases that other commits run."""
    tests: dict[str, list[pytest.Function]] = {}
    for item in items:
        if isinstance(item, pytest.Function) and item.get_closest_marker("dealt"):
            tests.setdefault(f"{item.path}::{item.originalname}", []).append(item)
    left_out: list[pytest.Item] = []
    for cases in tests.values():
        marker = cases[0].get_closest_marker("dealt")
        assert marker is not None
        parts, argument = marker.args
        kept = selection.dealt([id(case.callspec.params[argument]) for case in cases], parts)
        left_out += [case for case, keep in zip(cases, kept, strict=True) if not keep]
    return left_out


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if campaign := metafunc.definition.get_closest_marker("campaign"):
        (parts,) = campaign.args
        soak = metafunc.config.getoption("soak")
        metafunc.parametrize("part", range(parts) if soak else [selection.turn(parts)])


def _count_skip(report: pytest.CollectReport | pytest.TestReport, config: pytest.Config) -> None:
    """Where nothing may be skipped, make a failure of it: what is left out is not known to work."""
    if not config.getoption("no_skips") or not report.skipped or hasattr(report, "wasxfail"):
        return
    if not selection.may_skip(report.nodeid):
        report.outcome = "failed"
        report.longrepr = (
            f"{report.nodeid} was skipped: {report.longrepr}. tests/selection.py does not allow it."
        )


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    report = yield
    _count_skip(report, item.config)
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    report = yield
    _count_skip(report, collector.config)
    return report


@pytest.fixture(scope="module", autouse=True)
def _compiler(request: pytest.FixtureRequest):
    """The quick compiler, unless the module is marked `optimised`: there, programs are compiled as users' are.

    What one module has traced and loaded serves the next, if the same compiler made it and there is room for more.
    """
    wanted = os.environ[programs.COMPILER]
    if request.node.get_closest_marker("optimised"):
        wanted = "optimised"
    if programs.loaded_by != wanted or programs.crowded():
        programs.unload()
        programs.loaded_by = wanted
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv(programs.COMPILER, wanted)
        yield


@pytest.fixture
def all_cores():
    """Every core of the machine, as a user's process has them."""
    own = os.sched_getaffinity(0) if ALL_CORES else set()
    if ALL_CORES:
        os.sched_setaffinity(0, ALL_CORES)
    yield
    if ALL_CORES:
        os.sched_setaffinity(0, own)


@pytest.fixture
def no_cache():
    """Programs are compiled, not found among those of earlier runs."""
    with programs.kept_in(None):
        yield


@pytest.fixture(scope="session")
def private_runs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """Private runs of many kinds, made once for all tests that look at what a run leaves behind."""
    from tests.simulation.kept_runs import make_private_runs

    return make_private_runs(tmp_path_factory)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """A real browser, for tests of pages as people see them."""
    from playwright import sync_api

    path = shutil.which("chromium")
    if path is None:
        pytest.skip("no chromium here")
    with sync_api.sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser: Any) -> Iterator[Callable[..., Any]]:
    """`visit(url)` opens a page of the given width and colours; `clocked`: its `clock` can be put forward, so that nobody waits."""
    pages, thrown = [], []

    def open_page(url: str, *, width: int = 1000, scheme: str = "light", clocked: bool = False) -> Any:
        page = browser.new_page(
            viewport={"width": width, "height": 800},
            color_scheme=scheme,
            reduced_motion="reduce",
            locale="en-GB",
        )
        if clocked:
            page.clock.install()
        page.set_default_timeout(10_000)
        page.on("pageerror", lambda error: thrown.append(error.stack))
        page.on("console", lambda said: thrown.append(said.text) if "Content Security" in said.text else None)
        pages.append(page)
        page.goto(url)
        return page

    yield open_page
    for page in pages:
        page.close()
    assert not thrown
