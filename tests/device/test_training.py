"""A program runs in a child process with limits, and whatever happens there, the device goes on."""

import os
import subprocess
import sys
import threading
import time

import jax
import jax.numpy as jnp
import msgspec
import numpy as np
import pytest

import fairyring as fr
from fairyring.core.errors import TrainingFailed
from fairyring.core.keys import Purpose, of_round, root, shared
from fairyring.device import Rehearsed, Trainer, targets_here
from fairyring.device.training import Bounds, model_values
from fairyring.lowering import hardware
from fairyring.messages import Array
from tests.device.plans import (
    ENTROPY,
    PEOPLE,
    SEED,
    first_model,
    invitation,
    masked_plan,
    program_of,
    published,
)

pytestmark = pytest.mark.optimised
ROUND, CLIENT = 1, 2
NUMBERS = (Array("numbers", (4,), "<f4"),)
RESULT = (Array("result", (4,), "<f4"),)


def values(rows: int | None = None) -> dict[str, np.ndarray]:
    manifest = published("jax", "iree-x86_64").manifest
    device, invited = Rehearsed(SEED, ENTROPY), invitation(manifest, ROUND, place=CLIENT)
    return {
        **model_values(manifest, first_model(masked_plan())),
        "round": np.asarray(ROUND, np.int32),
        **{name: column[:rows] for name, column in PEOPLE.client(CLIENT).items()},
        "client_key": device.client_key(manifest, invited),
        "shared_key": np.array(invited.shared_key, np.uint32),
    }


def exported(function, *shapes) -> bytes:
    return bytes(jax.export.export(jax.jit(function), platforms=["cpu"])(*shapes).serialize())


def compiled(function, *shapes) -> bytes:
    compiler = pytest.importorskip("iree.compiler", reason="needs the extra 'export'")
    program = jax.export.export(jax.jit(function), platforms=["cpu"])(*shapes)
    return bytes(
        compiler.compile_str(
            program.mlir_module(), input_type="stablehlo", target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
    )  # fmt: skip


FOUR = jax.ShapeDtypeStruct((4,), np.float32)


@pytest.fixture(scope="module")
def native():
    return "iree-x86_64" if "iree-x86_64" in targets_here() else "iree-vmvx"


@pytest.fixture(scope="module")
def doubling():
    return compiled(lambda x: 2 * x, FOUR)


@pytest.fixture(scope="module")
def endless():
    return compiled(lambda x: jax.lax.fori_loop(0, (1 << 31) - 1, lambda _, y: jnp.sin(y) + 1, x), FOUR)


@pytest.fixture
def trainer():
    with Trainer(cores=1, nice=0) as made:
        yield made


def test_a_child_with_jax_gives_the_bits_of_a_simulation(trainer):
    package = published("jax", "iree-x86_64")
    found = trainer.train(package.manifest, "jax", program_of(package, "jax"), values())
    plan, rows = masked_plan(), PEOPLE.client(CLIENT)
    program = plan.program(plan.task.columns_of(PEOPLE), 8)
    call = jax.jit(program.exported.call, compiler_options=dict(hardware(1).options))
    key = of_round(root(SEED), ROUND)
    padded = {n: np.pad(c, [(0, 8 - len(c)), *[(0, 0)] * (c.ndim - 1)]) for n, c in rows.items()}
    given = values() | padded | {
        "size": np.asarray(len(rows["y"]), np.int32),
        "client_key": jax.random.key_data(jax.random.fold_in(key, CLIENT)),
        "shared_key": jax.random.key_data(shared(key, Purpose.SHARED)),
    }  # fmt: skip
    expected = dict(
        zip((r.name for r in program.results), call(*(given[a.name] for a in program.arguments)), strict=True)
    )
    np.testing.assert_array_equal(found.vector, expected["vector"])
    assert found.vector.dtype == np.uint32
    assert found.finite
    assert found.auxiliary.shape == (0,)
    assert found.client_state is None
    assert found.seconds > 0
    # The same program from a path, by IREE, to a grid's step.
    native = trainer.train(package.manifest, "iree-x86_64", program_of(package, "iree-x86_64"), values())
    steps = (native.vector - np.asarray(expected["vector"])).astype(np.int32)
    assert np.abs(steps).max() <= 64
    assert np.mean(np.abs(steps) > 1) < 0.02


def test_how_columns_are_filled_up_changes_nothing(trainer):
    package = published("jax", "iree-x86_64")
    program = program_of(package, "iree-x86_64")
    given = values(2)
    short = trainer.train(package.manifest, "iree-x86_64", program, given)
    filled = {n: np.concatenate([given[n], np.ones((6, *given[n].shape[1:]), given[n].dtype)]) for n in "xy"}
    again = trainer.train(
        package.manifest, "iree-x86_64", program, given | filled | {"size": np.asarray(2, np.int32)}
    )
    np.testing.assert_array_equal(short.vector, again.vector)
    many = {n: np.zeros((9, *given[n].shape[1:]), given[n].dtype) for n in "xy"}
    with pytest.raises(TrainingFailed, match="columns of 9 rows") as caught:
        trainer.train(package.manifest, "iree-x86_64", program, given | many)
    assert caught.value.reason == "nonsense"


def test_an_argument_of_another_form_is_refused_before_anything_runs(trainer):
    package = published("jax", "iree-x86_64")
    for change, text in (
        ({"params": np.zeros(244)}, "params: float64"),
        ({"x": np.zeros((3, 61), np.float32)}, r"x: float32 \[8, 61\]"),
        ({"client_key": None}, "no client_key"),
    ):
        given = {name: value for name, value in (values() | change).items() if value is not None}
        with pytest.raises(TrainingFailed, match=text):
            trainer.train(package.manifest, "iree-x86_64", program_of(package, "iree-x86_64"), given)
    assert trainer._child is None


def test_a_child_stays_for_the_next_round_of_a_program_and_no_longer(native, doubling, tmp_path):
    tripling = compiled(lambda x: 3 * x, FOUR)
    given = {"numbers": np.arange(4, dtype=np.float32)}
    path = tmp_path / "program.vmfb"
    path.write_bytes(doubling)
    with Trainer(keep_warm=0.4) as trainer:
        first = None
        for program in (doubling, doubling, path):
            ran = trainer.run(native, program, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
            np.testing.assert_array_equal(ran.results[0], 2 * given["numbers"])
            child = trainer._child
            assert child is not None
            first = child if program is doubling else first
        assert child is first  # a file with the same program, whenever it was written
        path.write_bytes(tripling)
        ran = trainer.run(native, path, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
        np.testing.assert_array_equal(ran.results[0], 3 * given["numbers"])
        child = trainer._child
        assert child is not first
        assert not first.alive
        until = time.monotonic() + 10
        while trainer._child is not None and time.monotonic() < until:
            time.sleep(0.02)
        assert trainer._child is None
        assert not child.alive
    with Trainer(keep_warm=0) as trainer:
        trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
        assert trainer._child is None


def test_a_child_outlives_the_thread_that_first_used_it(trainer, native, doubling):
    given = {"numbers": np.ones(4, np.float32)}
    first = threading.Thread(
        target=trainer.run, args=(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
    )
    first.start()
    first.join()
    child = trainer._child
    time.sleep(0.2)
    assert child.alive
    trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
    assert trainer._child is child


def test_a_program_that_does_not_end_is_ended(trainer, native, doubling, endless):
    given = {"numbers": np.ones(4, np.float32)}
    began = time.monotonic()
    with pytest.raises(TrainingFailed, match=r"more than 1\.5 s") as caught:
        trainer.run(native, endless, NUMBERS, RESULT, given, Bounds(1.5, 1 << 30))
    assert caught.value.reason == "timeout"
    assert time.monotonic() - began < 8
    assert trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30)).results[0][0] == 2


def test_a_program_that_takes_too_much_memory_is_refused_it(trainer, native, doubling):
    def greedy(x):
        table = jnp.outer(jnp.arange(20000, dtype=jnp.float32), x[0] + jnp.arange(10000, dtype=jnp.float32))
        return x + jnp.sort(table, axis=0)[1, :4]

    given = {"numbers": np.ones(4, np.float32)}
    with pytest.raises(TrainingFailed) as caught:
        trainer.run(native, compiled(greedy, FOUR), NUMBERS, RESULT, given, Bounds(60, 100 << 20))
    assert caught.value.reason == "memory"
    assert trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30)).results[0][0] == 2


def test_a_program_of_arrays_larger_than_its_memory_is_refused_before_any_is_made(trainer):
    manifest = published("jax", "iree-x86_64").manifest
    changed = tuple(
        msgspec.structs.replace(one, shape=(1 << 40, *one.shape[1:])) if one.name in "xy" else one
        for one in manifest.arguments
    )
    vast = msgspec.structs.replace(manifest, arguments=changed, examples=1 << 40)
    with pytest.raises(TrainingFailed, match="arguments and results of 26") as caught:
        trainer.train(vast, "iree-x86_64", b"", values())
    assert caught.value.reason == "memory"
    assert trainer._child is None
    assert Array("more than 64 bits", (1 << 40, 1 << 40), "<f4").nbytes == 1 << 82


def test_what_is_no_program_or_gives_something_else_is_said(trainer, native, doubling):
    given = {"numbers": np.ones(4, np.float32)}
    cases = [
        (native, b"no program", RESULT, "crashed", "given"),
        ("jax", b"no program", RESULT, "crashed", "given"),
        ("riscv", doubling, RESULT, "crashed", "riscv"),
        (native, doubling, (Array("result", (5,), "<f4"),), "nonsense", r"\[4\]"),
        (native, doubling, (Array("result", (4,), "<i4"),), "nonsense", "float32"),
        (native, doubling, RESULT * 2, "nonsense", "1 results of 2"),
    ]
    for target, program, results, reason, text in cases:
        with pytest.raises(TrainingFailed, match=text) as caught:
            trainer.run(target, program, NUMBERS, results, given, Bounds(30, 1 << 30))
        assert caught.value.reason == reason
    assert trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30)).results[0][0] == 2


def test_a_child_that_is_killed_is_an_error_and_the_next_round_has_another(
    trainer, native, doubling, endless
):
    given = {"numbers": np.ones(4, np.float32)}
    killer = threading.Timer(1.0, lambda: trainer._child._process.kill())
    killer.start()
    with pytest.raises(TrainingFailed, match="ended with -9"):
        trainer.run(native, endless, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
    trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30))
    trainer._child._process.kill()
    trainer._child._process.wait()  # between two rounds
    assert trainer.run(native, doubling, NUMBERS, RESULT, given, Bounds(30, 1 << 30)).results[0][0] == 2


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not end a process with its parent")
def test_a_child_ends_with_a_device_that_is_killed(native, endless, tmp_path):
    (tmp_path / "program.vmfb").write_bytes(endless)
    code = (
        "import sys, threading, time, numpy as np\n"
        "from pathlib import Path\n"
        "from fairyring.device.training import Bounds, Trainer\n"
        "from fairyring.messages import Array\n"
        "form = (Array('numbers', (4,), '<f4'),)\n"
        "trainer = Trainer()\n"
        "given = {'numbers': np.ones(4, np.float32)}\n"
        "train = lambda: trainer.run(sys.argv[1], Path(sys.argv[2]), form, form, given, Bounds(60, 1 << 30))\n"
        "threading.Thread(target=train, daemon=True).start()\n"
        "while trainer._child is None: time.sleep(0.01)\n"
        "print(trainer._child._process.pid, flush=True)\n"
        "time.sleep(60)\n"
    )
    device = subprocess.Popen(
        [sys.executable, "-c", code, native, tmp_path / "program.vmfb"], stdout=subprocess.PIPE, text=True
    )
    assert device.stdout is not None
    child = int(device.stdout.readline())
    time.sleep(1.0)  # it is within the program
    device.kill()
    device.wait()
    device.stdout.close()
    until = time.monotonic() + 5
    while time.monotonic() < until and _runs(child):
        time.sleep(0.02)
    assert not _runs(child)


def _runs(process: int) -> bool:
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    with open(f"/proc/{process}/stat") as file:  # one that nobody has waited for yet has ended
        return file.read().rsplit(")", 1)[1].split()[0] != "Z"


def test_nothing_of_a_device_needs_jax():
    code = (
        "import importlib, pkgutil, sys\n"
        "class NoJax:\n"
        "    def find_spec(self, name, path=None, target=None):\n"
        "        if name.split('.')[0] in ('jax', 'jaxlib', 'optax', 'equinox'):\n"
        "            raise ImportError(name + ' must not be needed on a device')\n"
        "sys.meta_path.insert(0, NoJax())\n"
        "import fairyring.device\n"
        "for module in pkgutil.iter_modules(fairyring.device.__path__, 'fairyring.device.'):\n"
        "    if not module.name.endswith('__main__'): importlib.import_module(module.name)\n"
        "for name in fairyring.device.__all__: getattr(fairyring.device, name)\n"
        "assert fairyring.device.targets_here()[:1] != ('jax',)\n"
        "print(*sorted(m for m in sys.modules if m.startswith('fairyring.device.')))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    assert "fairyring.device.training" in done.stdout


def test_limits_are_the_smaller_of_the_plans_and_the_devices():
    manifest = published("jax", "iree-x86_64").manifest
    assert Trainer(seconds=5, memory=1 << 20).bounds(manifest) == Bounds(5, 1 << 20)
    wide = msgspec.structs.replace(manifest, limits=fr_limits(seconds=3.0, memory=7))
    assert Trainer(seconds=5, memory=1 << 20).bounds(wide) == Bounds(3.0, 7)


def fr_limits(**changes):
    return msgspec.structs.replace(published("jax", "iree-x86_64").manifest.limits, **changes)


def test_a_model_is_flat_for_a_program():
    manifest = published("jax", "iree-x86_64").manifest
    arrays = first_model(masked_plan())
    found = model_values(manifest, arrays)
    np.testing.assert_array_equal(found["params"], np.concatenate([array.ravel() for array in arrays]))
    with pytest.raises(TrainingFailed, match="240 numbers for a program that takes 244"):
        model_values(manifest, arrays[1:])
    assert issubclass(TrainingFailed, fr.FairyringError)
