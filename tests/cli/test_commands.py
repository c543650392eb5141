"""Commands without training: help, version, report, bench; and the form of errors."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import fairyring
from fairyring.audit import Verified
from fairyring.cli._verify import _checked
from tests.cli.documented import document
from tests.report.run.run_folders import make_run_folder

COMMANDS = ["demo", "train", "report", "verify", "ledger", "audit", "privacy", "data", "bench"]


def test_version(call: Callable) -> None:
    assert call("--version").out.strip() == fairyring.__version__


def test_help_names_every_command_and_each_has_its_own(call: Callable) -> None:
    text = call("--help").out
    assert [name for name in COMMANDS if not re.search(rf"\b{name}\b", text)] == []
    for name in COMMANDS:
        assert f"fairyring {name}" in call(name, "--help").out


def test_starts_quickly_and_without_jax() -> None:
    code = (
        "import sys; from fairyring.cli import main\n"
        "try: main(['--help'])\n"
        "except SystemExit: pass\n"
        "print({'jax', 'matplotlib', 'numpy'} & set(sys.modules) or 'light')"
    )
    times = []
    for _ in range(3):
        started = time.perf_counter()
        out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
        times.append(time.perf_counter() - started)
        assert out.splitlines()[-1] == "light"
    assert min(times) < 1.0


def test_report_writes_the_file_and_says_where(call: Callable, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=3)
    called = call("report", folder)
    assert called.status == 0
    assert called.out.strip() == f"Report: {folder / 'report.html'}"
    assert (folder / "report.html").read_text("utf-8").startswith("<!doctype html>")
    assert call("report", folder, "--out", tmp_path / "other.html").status == 0
    assert (tmp_path / "other.html").is_file()


def test_an_error_is_a_short_panel_on_standard_error(call: Callable, tmp_path: Path) -> None:
    called = call("report", tmp_path / "nowhere")
    assert called.status == 2
    assert called.out == ""
    assert "Traceback" not in called.err
    for words in ("nowhere", "given", "no such folder", "expected", "do", "runs/demo"):
        assert words in called.err
    assert len(called.err.splitlines()) <= 8


def test_brackets_in_an_error_are_not_markup(call: Callable, tmp_path: Path) -> None:
    assert "[bold]x" in call("report", tmp_path / "[bold]x").err


def test_debug_shows_the_traceback(call: Callable, tmp_path: Path) -> None:
    with pytest.raises(fairyring.RunError):
        call("report", tmp_path / "nowhere", "--debug")


def test_an_unknown_command_is_refused(call: Callable) -> None:
    called = call("trian")
    assert called.status != 0
    assert "trian" in called.out + called.err


def test_bench_lists_questions_and_runs_one(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "benchmarks"
    folder.mkdir()
    (folder / "speed.py").write_text(
        '"""How fast is a round?\n\nMore."""\nimport sys\nprint("ran", *sys.argv[1:])\nsys.exit(3)\n'
    )
    (folder / "_machine.py").write_text('"""Not a benchmark."""\n')
    monkeypatch.setattr("fairyring.cli._bench._folder", lambda: folder)
    listed = call("bench").out
    assert re.search(r"speed\s+How fast is a round\?", listed)
    assert "_machine" not in listed
    assert call("bench", "speed", "--rounds", "5").status == 3
    wrong = call("bench", "sped")
    assert wrong.status == 2
    assert "one of speed" in wrong.err


def test_an_audit_runs_no_program_that_came_with_the_folder(call: Callable, tmp_path: Path) -> None:
    folder = make_run_folder(tmp_path / "run", rounds=3)
    for where in (folder / "plan.py", folder / "deeper" / "plan.py", tmp_path / "link.py"):
        where.parent.mkdir(exist_ok=True)
        mark = tmp_path / "was-run"
        if where.parent == tmp_path:
            where.symlink_to(folder / "plan.py")
        else:
            where.write_text(f"open({str(mark)!r}, 'w')\nraise SystemExit(3)\n")
        (folder / "source.json").write_text(json.dumps({"file": str(where), "settings": {}}))
        called = call("audit", folder)
        assert called.status == 2
        assert "a program in the run folder itself" in called.err
        assert not mark.exists()


def test_an_audit_says_which_program_it_runs_before_it_does(call: Callable, tmp_path: Path) -> None:
    folder, file = make_run_folder(tmp_path / "run", rounds=3), tmp_path / "own.py"
    file.write_text("raise ValueError('it was run')\n")
    (folder / "source.json").write_text(json.dumps({"file": str(file), "settings": {}}))
    called = call("audit", folder)
    assert called.status == 2
    assert f"Running {file}, which this folder names" in called.out
    assert "it was run" in called.err


def verified(**found: Any) -> list[str]:
    nothing = dict.fromkeys(Verified.__dataclass_fields__)
    return list(_checked(Verified(**{**nothing, "rounds": 0, "aborted": (), **found})))


def test_a_run_without_a_sum_is_not_said_to_have_transcripts_that_hold() -> None:
    words = verified(aborted=(2,))
    assert words[0] == "No round has a transcript: there was no sum, so there is nothing to verify."
    assert words[1] == "Without a sum: round 2; it changed nothing."
    assert len(words) == 2
    assert verified(aborted=(2, 5))[1] == "Without a sum: rounds 2, 5; they changed nothing."


def test_without_arguments_it_says_where_to_begin(call: Callable) -> None:
    called = call()
    assert called.status == 0
    for words in (fairyring.__version__, "fairyring demo", "fairyring train FILE.py", "fairyring --help"):
        assert words in called.out


def test_the_nearest_command_is_suggested(call: Callable) -> None:
    assert 'Did you mean "train"?' in call("trian").err
    assert 'Did you mean "jar"?' in call("ecology", "jra").err
    assert "Did you mean --resume?" in call("train", "plan.py", "--reusme").err


def test_completion_is_installed_for_a_shell(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert call("--install-completion", "--shell", "bash").status == 0
    script = tmp_path / ".local" / "share" / "bash-completion" / "completions" / "fairyring"
    assert str(script) in (tmp_path / ".bashrc").read_text("utf-8")
    for words in ("ecology", "--resume", "--json", "safetensors"):
        assert words in script.read_text("utf-8")


def test_help_fits_a_narrow_terminal() -> None:
    code = (
        "from fairyring.cli import main\n"
        "for words in ([], ['train'], ['privacy', 'plan'], ['ecology', 'run']): main([*words, '--help'])"
    )
    environment = os.environ | {"COLUMNS": "60"}
    ran = subprocess.run(
        [sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True
    )
    assert max(map(len, ran.stdout.splitlines())) == 60
    assert "default: False" not in ran.stdout
    assert ran.stdout.count("--json") == ran.stdout.count("Usage: fairyring") == 4


def test_what_follows_the_name_of_a_benchmark_is_its_own(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "speed.py").write_text('"""How fast?"""\nimport sys\nprint(sys.argv[1:])\n')
    monkeypatch.setattr("fairyring.cli._bench._folder", lambda: tmp_path)
    ran: list[list[str]] = []
    whole = subprocess.run
    monkeypatch.setattr(
        subprocess, "run", lambda command, **_: ran.append(command[2:]) or whole("true", check=False)
    )
    assert call("bench", "speed", "--json", "out.json", "--debug").out == ""
    assert document("bench NAME", call("--json", "bench", "speed", "-v").out) == {
        "benchmark": "speed",
        "status": 0,
    }
    assert ran == [["--json", "out.json", "--debug"], ["-v"]]
