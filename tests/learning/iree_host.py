"""Run a compiled client program as a device would: NumPy and IREE's runtime, and no JAX in the process.

    python iree_host.py PROGRAM.vmfb FUNCTION INPUTS.npz OUTPUTS.npz

Inputs are the arrays `arg0`, `arg1`, ... of INPUTS.npz, in the order of the exported function's flat
arguments; outputs are written as `out0`, `out1`, ... JAX is made impossible to import, not only left out, so
that a test which passes has shown that the device half stands alone.

How such a program is made (JAX 0.10.2, iree-base-compiler 3.13.0):

    half = jax.jit(half, keep_unused=True)  # or an argument that a plan does not use leaves the signature
    exported = jax.export.export(half, platforms=["cpu"])(*shapes)  # keys: raw uint32[2], wrapped inside
    program = iree.compiler.compile_str(
        exported.mlir_module(),
        input_type="stablehlo",
        target_backends=["llvm-cpu"],
        extra_args=["--iree-llvmcpu-target-cpu=host"],
    )

The exported function is called `main`. Loops whose trip count is an argument, gathers by index, Threefry,
top-k and stochastic rounding compile and run. Sorting does too in every quantised program tried, but an
unquantised program that sorts may fail on its first call ("indirect buffer reference slot 0 is out of
range", a regression of IREE 3.12, its issue 24753): shuffle by something other than a sort, or try `--iree-
hal-indirect-command-buffers=false`, which cures some programs and breaks others. IREE 3.11 does not compile
these programs.
"""

import importlib.abc
import sys
from pathlib import Path

import numpy as np


class _NoJax(importlib.abc.MetaPathFinder):
    """Refuses to find JAX, whether or not it is installed."""

    def find_spec(self, fullname: str, path: object, target: object = None) -> None:
        if fullname.partition(".")[0] in ("jax", "jaxlib"):
            raise ImportError(f"{fullname} must not be needed on a device")


def run(program: bytes, function: str, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """The results of `function` of a compiled program, on this thread's CPU."""
    from iree import runtime

    config = runtime.Config("local-sync")
    context = runtime.SystemContext(config=config)
    context.add_vm_module(runtime.VmModule.copy_buffer(context.instance, program))
    (module,) = (m for name, m in context.modules.items() if name != "hal")
    results = module[function](*inputs)
    if not isinstance(results, list | tuple):
        results = [results]
    return [np.array(result.to_host()) for result in results]


def main(program: str, function: str, inputs: str, outputs: str) -> None:
    sys.meta_path.insert(0, _NoJax())
    with np.load(inputs, allow_pickle=False) as given:
        arrays = [given[f"arg{i}"] for i in range(len(given.files))]
    results = run(Path(program).read_bytes(), function, arrays)
    np.savez(outputs, **{f"out{i}": result for i, result in enumerate(results)})


if __name__ == "__main__":
    main(*sys.argv[1:])
