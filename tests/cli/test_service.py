"""The commands around a service: they speak to one over HTTP, and print what it says."""

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from fairyring.secagg import Identity
from fairyring.service import Service
from tests.cli.documented import document

PLAN = """
import numpy as np
import optax
import fairyring as fr

def population():
    x = np.random.default_rng(0).normal(size=(40, 4)).astype(np.float32)
    return fr.Population.from_arrays({"x": x, "y": (x[:, 0] > 0).astype(np.int32)}, client=np.arange(40) % 5)

plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(features=4, classes=2)),
    local=fr.LocalTraining(optax.sgd(0.5), epochs=1, batch_size=4),
    cohort=3,
    aggregation=fr.chain(fr.clip(1.0), fr.quantize(bits=8), fr.secure_sum(modulus_bits=16)),
)
rounds = 2
"""


@pytest.fixture
def plan(tmp_path: Path) -> Path:
    path = tmp_path / "plan.py"
    path.write_text(PLAN)
    return path


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """One that conducts nothing: what is submitted waits."""
    with Service(tmp_path / "service") as service:
        yield service


def test_a_plan_is_signed_and_submitted_and_its_run_does_what_is_wanted(
    call: Callable, service: Service, plan: Path, tmp_path: Path
) -> None:
    server = ("--server", service.url)
    made = document("key", call("key", tmp_path / "author.key", "--json").out)
    assert (tmp_path / "author.key").stat().st_mode & 0o077 == 0
    assert call("key", tmp_path / "author.key").out.strip() == made["public"]
    assert "no runs yet" in call("runs", *server).out
    sent = call("submit", plan, "--sign", tmp_path / "author.key", "--target", "jax", *server, "--json")
    submitted = document("submit", sent.out)
    assert submitted["author"] == made["public"]
    run = submitted["run"]
    (stored,) = document("runs", call("runs", *server, "--json").out)["runs"]
    assert (stored["id"], stored["name"], stored["signed"], stored["rounds"]) == (run, "plan", True, 2)
    for command, wanted in (("pause", "pause"), ("resume", "run"), ("cancel", "cancel")):
        said = document(command, call(command, run, *server, "--json").out)
        assert said == {"run": run, "wanted": wanted}
        assert service.storage.runs.get(run).wanted == wanted
    refused = json.loads(call("resume", run, *server, "--json").out)["error"]
    assert "cancelled" in refused["given"]
    (service.runs / f"{run}.log").write_text("a line\n")
    assert call("logs", run, *server).out == "a line\n"
    done = [noted.action for noted in service.storage.audit.read()]
    assert {"submit", "pause", "run", "cancel"} <= set(done)


def test_devices_are_enrolled_listed_and_revoked(call: Callable, service: Service, tmp_path: Path) -> None:
    server = ("--server", service.url)
    token = document("enrol", call("enrol", "--quota", "2", *server, "--json").out)["token"]
    assert token not in (tmp_path / "service" / "service.sqlite").read_bytes().decode("latin-1")
    keys = [Identity.generate().public.hex() for _ in range(3)]
    listed = tmp_path / "keys"
    listed.write_text("\n".join(keys))
    assert document("enrol --keys", call("enrol", "--keys", listed, *server, "--json").out) == {"new": 3}
    service.storage.devices.enrol(token, Identity.generate().public, "a phone")
    found = document("devices", call("devices", *server, "--json").out)["devices"]
    assert {one["key"] for one in found} > set(keys)
    assert "a phone" in call("devices", *server).out
    assert document("revoke", call("revoke", keys[0], "--reason", "stolen", *server, "--json").out) == {
        "device": keys[0],
        "revoked": True,
    }
    assert call("revoke", keys[0], "--reason", "again", *server).out == "it was revoked before\n"
    assert call("revoke", "zz", "--reason", "none", *server).status == 2


def test_operators_sign_in_and_a_viewer_changes_nothing(
    call: Callable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = ("--data", tmp_path / "service")
    with Service(tmp_path / "service") as service:
        server = ("--server", service.url)
        monkeypatch.setenv("FAIRYRING_PASSWORD", "a long enough password")
        for name, role in (("anna", "operator"), ("ben", "viewer")):
            said = document(
                "service operator", call("service", "operator", name, "--role", role, *data, "--json").out
            )
            assert said == {"operator": name, "role": role}
        assert call("runs", *server).status == 2  # nobody is one by being here any more
        assert call("runs", *server, "--user", "anna").status == 0
        refused = call("enrol", *server, "--user", "ben", "--json")
        assert (refused.status, json.loads(refused.out)["error"]["given"]) == (2, "a viewer")
        token = document(
            "service token", call("service", "token", "ben", "--days", "2", *data, "--json").out
        )["token"]
        monkeypatch.setenv("FAIRYRING_PASSWORD", "another password")
        assert call("runs", *server, "--user", "anna").status == 2
        monkeypatch.setenv("FAIRYRING_TOKEN", token)
        assert call("runs", *server).status == 0
    migrated = document("service migrate", call("service", "migrate", *data, "--json").out)
    assert migrated["database"].endswith("service.sqlite")


def test_a_service_that_does_not_answer_is_said(call: Callable, tmp_path: Path) -> None:
    said = call("runs", "--server", "http://127.0.0.1:9")
    assert said.status == 2
    assert "fairyring serve" in said.err


@pytest.mark.slow
def test_up_runs_a_plan_on_devices_and_writes_its_report(
    call: Callable, plan: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    found = document("up", call("up", plan, "--devices", "3", "--target", "jax", "--json").out)
    assert (found["status"], found["rounds"], found["devices"], found["clients"]) == ("finished", 2, 3, 6)
    assert Path(found["report"]).is_file()
    folder = tmp_path / "runs" / "plan-devices" / "devices" / "0000"
    state = document("device status", call("device", "status", "--folder", folder, "--json").out)
    assert [one["outcome"] for one in state["taken_part"]] == ["in the sum"] * 2
    assert all(one["masked"] for one in state["taken_part"])
    assert document("device off", call("device", "off", "--folder", folder, "--json").out) == {"on": False}
    forgotten = document("device forget", call("device", "forget", "--folder", folder, "--json").out)
    assert forgotten["forgotten"] == 16
    assert document("device leave", call("device", "leave", "--folder", folder, "--json").out) == {
        "left": True
    }
    assert call("device", "status", "--folder", folder).status == 2
    refused = call("up", plan, "--devices", "2", "--json")
    assert "cohort" in json.loads(refused.out)["error"]["what"]
