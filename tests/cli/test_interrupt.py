"""Ctrl-C in a real process while a larger model is compiled: it is answered at once, and the run goes on from what is kept."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.processes.fairyring_test_programs import as_users

# Layers of as many widths: no two programs within are the same, and to compile them takes seconds.
PLAN = """
import jax
import jax.numpy as jnp
import numpy as np
import optax
import fairyring as fr
from fairyring.task import Model

WIDTHS = [5, *range(17, 17 + 20), 3]

def first(key):
    return [np.full(pair, 0.1, np.float32) for pair in zip(WIDTHS, WIDTHS[1:])]

def forward(params, x, key):
    for weights in params[:-1]:
        x = jax.nn.gelu(x @ weights) + jnp.sort(x @ weights)
    return x @ params[-1]

rng = np.random.default_rng(0)
columns = {"x": rng.normal(size=(60, 5)).astype(np.float32), "y": rng.integers(0, 3, 60).astype(np.int32)}
population = fr.partition.uniform(columns, clients=6, seed=0)
plan = fr.Plan(fr.classification(Model(first, forward)), local=fr.LocalTraining(optax.adam(0.1), batch_size=5), cohort=3)
rounds = 2
"""


@pytest.mark.optimised
def test_ctrl_c_is_answered_at_once_while_a_program_is_compiled(tmp_path: Path) -> None:
    (tmp_path / "deep.py").write_text(PLAN)
    command = [sys.executable, "-m", "fairyring", "train", "deep.py", "--json"]
    environment = as_users() | {"JAX_LOG_COMPILES": "1", "PYTHONUNBUFFERED": "1"}
    source = str(Path(__file__).parents[2] / "src")
    environment["PYTHONPATH"] = os.pathsep.join([source, os.environ.get("PYTHONPATH", "")])
    began = time.monotonic()
    with subprocess.Popen(
        command, cwd=tmp_path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        assert process.stderr is not None
        lowered = next(filter(re.compile(r"to MLIR .* jit\(several\)").search, process.stderr), None)
        assert lowered is not None
        # Soon XLA is at work, and has seconds to go; all of that takes longer on a machine that is busy.
        time.sleep(0.15 * (time.monotonic() - began))
        sent = time.monotonic()
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
        answered = time.monotonic() - sent
    assert process.returncode == 130, err
    assert answered < 1
    assert "Finished XLA compilation of jit(several)" not in err
    told = json.loads(out)["interrupted"]
    assert told["command"] == "fairyring train deep.py --run runs/deep --resume"
    assert (tmp_path / "runs" / "deep" / "run.json").is_file()
    assert (tmp_path / "runs" / "deep" / "lock").read_text() == ""
