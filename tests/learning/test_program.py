"""The spine: the device half, exported, compiled by IREE and run without JAX, gives the simulation's numbers."""

import subprocess
import sys
from functools import cache
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import optax
import pytest

import fairyring as fr
from fairyring.core.keys import Purpose, of_round, root, shared
from fairyring.learning.device import Broadcast, device_half
from fairyring.learning.local import Workload
from fairyring.lowering import lower_for_cpu
from fairyring.task import zoo

HOST = Path(__file__).parent / "iree_host.py"
ROOM, SIZE, ROUND, CLIENT = 24, 19, 3, 5  # rows on the device; examples among them; the address


def mlp(aggregation, **changes):
    task = fr.classification(zoo.two_nn(features=12, hidden=16, classes=5))
    local = fr.LocalTraining(optax.sgd(0.1), epochs=2, batch_size=6)
    return fr.Plan(**({"task": task, "local": local, "cohort": 9, "aggregation": aggregation} | changes))


def cnn(aggregation):
    task = fr.classification(zoo.cnn((10, 10, 1), classes=4, filters=(8, 8), hidden=16))
    return fr.Plan(task, fr.LocalTraining(optax.sgd(0.05), batch_size=8), 9, aggregation)


REAL = fr.chain(fr.weight_by_examples())
INTEGER = fr.chain(fr.clip(0.5), fr.rotate(), fr.quantize(bits=10), fr.secure_sum())
PLANS = {
    "real": lambda: mlp(REAL),
    "integer": lambda: mlp(INTEGER),
    "scaffold": lambda: mlp(fr.chain(), algorithm=fr.scaffold()),
    "cnn": lambda: cnn(INTEGER),
}


def example(plan, name):
    """Arguments for the program of a plan, and the columns' kinds."""
    rng = np.random.default_rng(1)
    shape = (10, 10, 1) if name == "cnn" else (12,)
    columns = {
        "x": rng.normal(size=(ROOM, *shape)).astype(np.float32),
        "y": rng.integers(0, 4, ROOM).astype(np.int32),
    }
    kinds = {key: (value.shape[1:], value.dtype) for key, value in columns.items()}
    params = plan.task.model.init(jax.random.key(2))
    round_key = of_round(root(7), ROUND)
    given = {
        "params": np.asarray(plan.layout.flatten(params)),
        "server_state": np.full(plan.layout.size, 0.01, np.float32),
        "round": np.int32(ROUND),
        "size": np.int32(SIZE),
        **columns,
        "client_state": np.full(plan.layout.size, 0.02, np.float32),
        "client_key": np.asarray(jax.random.key_data(jax.random.fold_in(round_key, CLIENT))),
        "shared_key": np.asarray(jax.random.key_data(shared(round_key, Purpose.SHARED))),
    }
    return given, kinds, params, round_key


def simulated(plan, given, params, round_key):
    """What the simulation computes for this client: the same half, at other rows of a larger table, other shapes."""
    update = device_half(
        plan.task,
        plan.local,
        plan.algorithm,
        plan.bound,
        Workload.of(np.array([SIZE, 7, 40]), plan.local),
        rewrite=lower_for_cpu,
    )
    columns = {
        name: jnp.concatenate([jnp.asarray(given[name])[::-1], jnp.asarray(given[name])])
        for name in ("x", "y")
    }
    trees = {n: plan.layout.unflatten(jnp.asarray(given[n])) for n in ("server_state", "client_state")}
    if plan.algorithm.name != "scaffold":
        trees = {"server_state": (), "client_state": ()}
    outcome = jax.jit(update)(
        Broadcast(params, trees["server_state"], jnp.int32(ROUND)),
        columns,
        jnp.int32(ROOM),
        jnp.int32(SIZE),
        trees["client_state"],
        jax.random.fold_in(round_key, CLIENT),
        shared(round_key, Purpose.SHARED),
    )
    return outcome


def agree(plan, vector, auxiliary, outcome):
    expected = np.asarray(outcome.message.vector)
    assert vector.dtype == expected.dtype
    if plan.bound.spec.modulus_bits is None:
        scale = np.abs(expected).max()
        np.testing.assert_allclose(vector, expected, atol=1e-5 * scale)
        np.testing.assert_allclose(auxiliary, np.asarray(outcome.message.auxiliary), rtol=1e-5)
        return
    difference = (vector.astype(np.int64) - expected.astype(np.int64) + 2**31) % 2**32 - 2**31
    model = plan.bound.spec.dimension - len(plan.auxiliaries)
    assert np.abs(difference[:model]).max() <= 1
    assert np.mean(difference[:model] != 0) < 0.01
    assert np.abs(difference[model:]).max() <= 64  # auxiliary values travel in steps 2^16 times finer


@cache
def exported(name):
    """A plan, arguments for its program, the program, and what the simulation computes from the same."""
    plan = PLANS[name]()
    given, kinds, params, round_key = example(plan, name)
    return plan, given, plan.program(kinds, ROOM), simulated(plan, given, params, round_key)


@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", PLANS)
def test_the_exported_half_is_the_simulations(name):
    plan, given, program, outcome = exported(name)
    again = jax.export.deserialize(bytearray(program.serialize()))
    values = dict(
        zip(
            (r.name for r in program.results),
            again.call(*(given[a.name] for a in program.arguments)),
            strict=True,
        )
    )
    agree(plan, np.asarray(values["vector"]), values.get("side"), outcome)
    assert bool(values["finite"])
    if plan.algorithm.name == "scaffold":
        expected = plan.layout.flatten(outcome.client_state)
        np.testing.assert_allclose(values["client_state"], expected, rtol=1e-4, atol=1e-6)


@pytest.mark.slow
@pytest.mark.dealt(2, "name")
@pytest.mark.parametrize("name", ["scaffold", "cnn"])  # floats and states; whole numbers and convolutions
def test_compiled_by_iree_and_run_without_jax(name, tmp_path):
    compiler = pytest.importorskip("iree.compiler", reason="needs the extra 'export'")
    plan, given, program, outcome = exported(name)
    vmfb = compiler.compile_str(
        program.stablehlo(),
        input_type="stablehlo",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )
    (tmp_path / "program.vmfb").write_bytes(vmfb)
    np.savez(tmp_path / "in.npz", **{f"arg{i}": given[a.name] for i, a in enumerate(program.arguments)})
    done = subprocess.run(
        [sys.executable, HOST, tmp_path / "program.vmfb", "main", tmp_path / "in.npz", tmp_path / "out.npz"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr[-2000:]
    with np.load(tmp_path / "out.npz") as out:
        values = {result.name: out[f"out{i}"] for i, result in enumerate(program.results)}
    agree(plan, values["vector"], values.get("side"), outcome)


def test_a_program_names_its_arguments():
    plan = PLANS["real"]()
    program = plan.program({"x": ((12,), np.float32), "y": ((), np.int32)}, ROOM)
    assert [a.name for a in program.arguments] == [
        "params", "round", "size", "x", "y", "client_key", "shared_key",
    ]  # fmt: skip
    assert program.arguments[3].shape == (ROOM, 12)
    assert [r.name for r in program.results] == ["vector", "side", "finite"]
    with pytest.raises(fr.PlanError, match="program examples"):
        plan.program({}, 0)
