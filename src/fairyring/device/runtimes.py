"""What can run a plan's program on this machine: IREE's runtime, or JAX. Each is imported where a program is loaded, in the child process."""

import platform
from collections.abc import Callable, Sequence
from importlib.util import find_spec

import numpy as np

from fairyring.core.errors import TrainingFailed

Run = Callable[[Sequence[np.ndarray]], list[np.ndarray]]
_MACHINES = {
    "x86_64": "iree-x86_64",
    "AMD64": "iree-x86_64",
    "aarch64": "iree-aarch64",
    "arm64": "iree-aarch64",
}
_FUNCTION = "main"


def targets_here() -> tuple[str, ...]:
    """The targets of programs that can run here, the best first; nothing is imported for the answer."""
    found: list[str] = []
    if _has_jax():
        found.append("jax")
    if _is_there("iree.runtime"):
        native = _MACHINES.get(platform.machine())
        found += [native] if native is not None and platform.system() == "Linux" else []
        found.append("iree-vmvx")
    return tuple(found)


def loaded(target: str, program: bytes) -> Run:
    """A program, ready to run: arrays in the order of its arguments in, arrays in the order of its results out.

    Args:
        target: that the program was compiled for, such as `iree-x86_64` or `jax`.
        program: as its author published it.

    Raises:
        TrainingFailed: there is nothing here that runs this target.
    """
    if target == "jax" and _has_jax():
        return _jax(program)
    if target.startswith("iree-") and _is_there("iree.runtime"):
        return _iree(program)
    raise TrainingFailed(
        "crashed",
        given=f"a program for {target!r}",
        expected=f"one for {' or '.join(targets_here()) or 'a runtime that is installed'}",
        do="Install the runtime, or let the plan's author add a target.",
    )


def _has_jax() -> bool:
    # The distribution for devices lacks what compiles for JAX.
    return _is_there("jax") and _is_there("fairyring.lowering")


def _is_there(module: str) -> bool:
    try:
        return find_spec(module) is not None
    except ImportError:
        return False


def _iree(program: bytes) -> Run:
    from iree import runtime

    context = runtime.SystemContext(config=runtime.Config("local-sync"))
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, program))
    (module,) = (module for name, module in context.modules.items() if name != "hal")
    function = module[_FUNCTION]

    def run(arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        results = function(*arguments)
        results = results if isinstance(results, list | tuple) else [results]
        return [np.array(result.to_host()) for result in results]

    return run


def _jax(program: bytes) -> Run:
    from jax import export

    from fairyring.core.program import Program
    from fairyring.lowering import hardware

    # Compiled as a simulation compiles it, so that it gives a simulation's bits; and kept for the next process.
    here = hardware(1, processors=1)
    call = Program(export.deserialize(bytearray(program)).call, here.processors, options=here.options)

    def run(arguments: Sequence[np.ndarray]) -> list[np.ndarray]:
        return [np.asarray(result) for result in call(0, *arguments)]

    return run
