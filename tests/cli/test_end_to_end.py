"""The command line on the real engine."""

import importlib
import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from safetensors.numpy import load_file

from tests.cli.documented import document

pytest.importorskip("sklearn")
if not hasattr(importlib.import_module("fairyring.simulation"), "simulate"):
    pytest.skip("the engine is not part of this tree", allow_module_level=True)

FILE = """
import jax.numpy as jnp
import numpy as np
import optax
import fairyring as fr

rng = np.random.default_rng(0)
x = rng.normal(size=(400, 5)).astype(np.float32)
y = (x @ rng.normal(size=(5, 3))).argmax(1).astype(np.int32)
population = fr.partition.uniform({"x": x, "y": y}, clients=20, seed=0)
test = population
plan = fr.Plan(
    fr.classification(fr.zoo.logistic_regression(5, 3)),
    local=fr.LocalTraining(optax.sgd(0.1), epochs=1, batch_size=5),
    cohort=5,
)
rounds = 8
"""


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "small.py"
    path.write_text(FILE)
    return path


def last_state(run: Path) -> dict:
    return load_file(sorted((run / "checkpoints").glob("*.safetensors"))[-1])


def test_train_report_and_a_changed_field(call: Callable, file: Path, tmp_path: Path) -> None:
    called = call("train", file, "--run", tmp_path / "a", "--set", "local.batch_size=4")
    assert called.status == 0, called.err
    assert "What is not private about this run" in called.out
    page = (tmp_path / "a" / "report.html").read_text("utf-8")
    assert re.search(r"local\.batch_size</th><td>4<", page)
    wrong = call("train", file, "--run", tmp_path / "b", "--set", "local.batchsize=4")
    assert wrong.status == 2
    assert "batch_size" in wrong.err


def test_a_run_in_use_is_refused_and_a_resumed_one_ends_in_the_same_bits(
    call: Callable, file: Path, tmp_path: Path
) -> None:
    assert call("train", file, "--run", tmp_path / "whole").status == 0
    refused = call("train", file, "--run", tmp_path / "whole")
    assert refused.status == 2
    assert "--resume" in refused.err
    assert call("train", file, "--run", tmp_path / "parts", "--rounds", 4).status == 0
    assert call("train", file, "--run", tmp_path / "parts", "--resume").status == 0
    whole, parts = last_state(tmp_path / "whole"), last_state(tmp_path / "parts")
    assert whole.keys() == parts.keys()
    assert all(whole[name].tobytes() == parts[name].tobytes() for name in whole)


def test_a_private_run_is_counted_stopped_and_audited(call: Callable, file: Path, tmp_path: Path) -> None:
    private = (
        "aggregation=fr.chain(fr.clip(1.0), fr.gaussian_noise(2.0)),\n    "
        "privacy=fr.Budget(epsilon=4.0, delta=1e-5),\n    cohort=fr.cohort.in_turn(5, separation=2)"
    )
    file.write_text(FILE.replace("cohort=5", private))
    trained = call("train", file, "--run", tmp_path / "run", "--rounds", 30)
    assert trained.status == 0, trained.err
    assert "the next round would have exceeded the budget" in trained.out
    spent = float(re.findall(r"epsilon ([\d.]+) of 4 spent", trained.out)[0])
    assert 3 < spent <= 4
    listed = call("ledger", tmp_path / "run")
    assert listed.status == 0, listed.err
    head = re.findall(r"^  (\d+:[0-9a-f]{64})$", listed.out, flags=re.MULTILINE)[0]
    assert "is in it" in call("ledger", tmp_path / "run", "--head", head).out
    read = document("ledger", call("ledger", tmp_path / "run", "--head", head, "--json").out)
    assert (read["head"], read["noted"]) == (head, int(head.split(":")[0]))
    assert read["spent"] == pytest.approx(spent, abs=0.01)
    assert len(read["releases"]) == read["released"]
    assert (
        call("ledger", tmp_path / "run", "--head", head[:-1] + ("0" if head[-1] != "0" else "1")).status == 2
    )
    audited = call("audit", tmp_path / "run", "--canaries", 0, "--targets", 5, "--shadows", 8)
    assert audited.status == 0, audited.err
    assert "The mechanism is what is claimed." in audited.out
    assert "Membership inference: 8 runs" in audited.out
    assert "quotients of each unit" in audited.out
    assert "What this attack cannot show:" in audited.out
    nothing = "--canaries", 0, "--targets", 0, "--shadows", 0
    again = document("audit", call("audit", tmp_path / "run", *nothing, "--json").out)
    assert again["holds"]
    assert again["mechanism"]["holds"]
    assert again["membership"] is None
    other = tmp_path / "other.py"
    other.write_text(FILE)
    assert call("audit", tmp_path / "run", other, "--targets", 0).status == 2


def test_a_budget_is_planned_for(call: Callable) -> None:
    found = call(
        "privacy", "plan", "--population", 10000, "--cohort", 100, "--rounds", 50, "--dimension", 1000
    )
    assert found.status == 0, found.err
    assert "in turn" in found.out
    refused = call("privacy", "plan", "--population", 10, "--cohort", 100, "--rounds", 50, "--json")
    assert refused.status == 2
    assert json.loads(refused.out)["error"]["what"] == "cohort"


def test_a_file_may_ask_for_the_masked_protocol_and_its_run_is_verified(
    call: Callable, file: Path, tmp_path: Path
) -> None:
    clear = call("train", file, "--run", tmp_path / "clear")
    assert clear.status == 0, clear.err
    refused = call("verify", tmp_path / "clear")
    assert refused.status == 2
    assert "not summed by the masked protocol" in refused.err
    chain = "aggregation=fr.chain(fr.clip(1.0), fr.quantize(bits=10), fr.secure_sum(16)),\n    cohort=5"
    file.write_text(FILE.replace("cohort=5", chain) + 'secure_sum = "protocol"\n')
    masked = call("train", file, "--run", tmp_path / "masked", "--rounds", 3)
    assert masked.status == 0, masked.err
    assert "3 masked sums, the smallest of 5 clients" in masked.out
    found = call("verify", tmp_path / "masked")
    assert found.status == 0, found.err
    assert "3 rounds verified: every transcript is valid." in found.out
    assert "of rounds 2, 3" in found.out
    assert "This end is signed by all devices in the last sum: 5 devices." in found.out
    assert "Files that are not part of what devices signed: report.html, source.json." in found.out
    head = re.findall(r"^  ([0-9a-f]{64})$", found.out, flags=re.MULTILINE)[0]
    read = document("verify", call("verify", tmp_path / "masked", "--json").out)
    assert (read["whole"], read["rounds"], read["signed"], read["head"]) == (True, 3, 5, head)
    assert "that of the end of the run" in call("verify", tmp_path / "masked", "--head", head).out
    assert call("verify", tmp_path / "masked", "--head", "0" * 64).status == 2
    (tmp_path / "masked" / "secure_sum" / "round-000003.sum").write_bytes(b"")
    assert call("verify", tmp_path / "masked").status == 2
