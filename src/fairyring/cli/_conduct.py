"""What conducts a run of a service: a process beside it, which reads the plan's files and computes the server's half of every round."""

import os
import secrets
import subprocess
import sys
from pathlib import Path

import msgspec

from fairyring.cli._plan_file import PlanFile
from fairyring.cli._result import Result
from fairyring.core.errors import LeaseLost, MissingExtra, RunError, StorageError
from fairyring.service.blobs import Blobs
from fairyring.service.options import RunOptions, Source
from fairyring.service.serving import Service
from fairyring.service.storage import Storage

# Where the child finds what the service keeps. Not in its arguments, which others on the machine can read: a URL may have a password.
DATABASE, BLOBS = "FAIRYRING_DATABASE", "FAIRYRING_BLOBS"


def conductor(service: Service, run: str) -> "subprocess.Popen[bytes]":
    """Begin to conduct a run, in a process of its own; what it says goes to the run's log."""
    log = (service.runs / f"{run}.log").open("ab")
    try:
        return subprocess.Popen(
            [sys.executable, "-m", "fairyring", "conduct", run, "--data", str(service.data)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
            env=os.environ | {DATABASE: service.database, BLOBS: service.blob_place},
        )
    finally:
        log.close()


def conduct(run: str, data: Path) -> Result:
    """Conduct a run to its end; see the command `conduct`."""
    from fairyring.service.runner import Runner  # and with it JAX, which whoever serves needs not

    runs = data / "runs"
    with Storage(os.environ.get(DATABASE, str(data / "service.sqlite"))) as storage:
        blobs = Blobs(os.environ.get(BLOBS, str(data / "blobs")))
        stored = storage.runs.get(run)
        if stored is None:
            raise RunError(run, given="no such run", expected="the id of one", do="See fairyring runs.")
        try:
            source = msgspec.msgpack.decode(
                blobs.get(bytes.fromhex(RunOptions.read(stored.settings).source)), type=Source
            )
            plan = PlanFile.read(_written(source, runs / f"{run}.source"), population=False)
            runner = Runner(
                storage, blobs, stored, plan.plan, plan.test, runs, owner=f"conductor-{secrets.token_hex(6)}"
            )
            try:
                state = runner.go()
                _report(runs / run)
                runner.end(state)
            finally:
                runner.close()
        except LeaseLost:
            return Result({"run": run, "state": "taken over"}, lambda: None)
        except StorageError:  # the run is as good as before: whoever begins anew goes on with it
            raise
        except Exception as error:
            storage.runs.update(run, "failed", stored.progress | {"error": f"{error}"[:2000]})
            storage.sessions.clear(run, "the run has failed")
            raise
    return Result({"run": run, "state": state}, lambda: None)


def _written(source: Source, folder: Path) -> Path:
    """The files of a plan, in a folder; returns the path of the one that defines it."""
    root = folder.resolve()
    for name, content in source.files.items():
        path = (root / name).resolve()
        if not path.is_relative_to(root):
            raise RunError(
                "files of a plan",
                given=repr(name)[:100],
                expected="paths within a folder",
                do="Submit it again.",
            )
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    if source.entry not in source.files:
        raise RunError(
            "files of a plan",
            given=f"{source.entry[:100]!r}, which is none of them",
            expected="the file that defines the plan",
            do="Submit it again.",
        )
    return root / source.entry


def _report(folder: Path) -> None:
    from fairyring.report import write_report

    try:
        write_report(folder)
    except MissingExtra as error:
        print(f"No report was written: {error.do}")
