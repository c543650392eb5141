"""A plan's exported program, compiled for the processors of devices.

`iree-CPU` is machine code for 64-bit Linux, `iree-vmvx` bytecode that runs on any processor, slowly, and `jax` the program as JAX exports
it, for devices that have JAX of about the same version.
"""

import platform
from collections.abc import Mapping

from fairyring.core.errors import PlanError
from fairyring.core.extras import require
from fairyring.learning.program import Program

# What IREE's compiler is told for each target, beside the form of the program.
TARGETS: Mapping[str, tuple[str, tuple[str, ...]] | None] = {
    "jax": None,
    "iree-x86_64": (
        "llvm-cpu",
        (
            "--iree-llvmcpu-target-triple=x86_64-unknown-linux-gnu",
            "--iree-llvmcpu-target-cpu=x86-64-v3",
        ),
    ),
    "iree-aarch64": (
        "llvm-cpu",
        ("--iree-llvmcpu-target-triple=aarch64-unknown-linux-gnu", "--iree-llvmcpu-target-cpu=generic"),
    ),
    "iree-vmvx": ("vmvx", ()),
}


def targets_of_this_machine() -> tuple[str, ...]:
    """The targets that devices on a machine like this one can run, the best first."""
    machine = {"x86_64": "iree-x86_64", "AMD64": "iree-x86_64", "aarch64": "iree-aarch64"}
    native = machine.get(platform.machine())
    return ("jax", *((native,) if native else ()), "iree-vmvx")


def compiled_for(target: str, program: Program) -> bytes:
    """A program compiled for a target.

    Raises:
        PlanError: there is no such target, or the compiler cannot compile this program for it.
        MissingExtra: IREE's compiler is not installed.
    """
    if target not in TARGETS:
        raise PlanError(
            "target", given=repr(target), expected=f"one of {', '.join(TARGETS)}", do="Choose one of them."
        )
    how = TARGETS[target]
    if how is None:
        return program.serialize()
    require("iree.compiler", extra="export", purpose=f"compiling a program for {target}")
    import iree.compiler

    backend, arguments = how
    try:
        compiled = iree.compiler.compile_str(
            program.stablehlo(),
            input_type="stablehlo",
            target_backends=[backend],
            extra_args=list(arguments),
        )
    except iree.compiler.CompilerToolError as error:
        raise PlanError(
            f"the plan's program, for {target}",
            given=f"{str(error).strip().splitlines()[-1]:.300}",
            expected="a program that IREE compiles",
            do="Leave this target out; devices with JAX run the target jax.",
        ) from error
    assert compiled is not None, "only files that are written by the compiler itself have no result"
    return bytes(compiled)
