"""A trained model written as a file for other software: its parameters alone, or its forward pass with them in it."""

import io
import os
import zipfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import MissingExtra, ModelError
from fairyring.core.files import ANYBODY, make_folder, replace_file, storage
from fairyring.core.tensors import tensors
from fairyring.runs.model import TrainedModel
from fairyring.runs.static import lowered

SUFFIXES = {
    ".npz": "numpy",
    ".safetensors": "safetensors",
    ".pt": "torch",
    ".pth": "torch",
    ".onnx": "onnx",
    ".vmfb": "iree",
}


def export_model(
    model: TrainedModel, path: str | os.PathLike[str], *, to: str | None = None, rows: int = 1
) -> Path:
    """Write a trained model as a file.

    Args:
        model: of a run, such as `run.model()` or `run.best()`.
        path: of the file. A file that is there is replaced.
        to: `numpy` (.npz) and `safetensors`: the parameters as arrays by name. `torch` (.pt): PyTorch's state dict. `onnx` (.onnx) and `iree`
            (.vmfb, a module for this machine's CPU with the function `main`): the forward pass with parameters and `prepare` in it, so that
            it takes inputs as the population has them. By default as the suffix of `path` says.
        rows: how many rows of inputs `onnx` and `iree` take at once.

    Returns:
        The path.

    Raises:
        ModelError: no such format; or the model cannot be written in it.
        MissingExtra: a package that the format needs is not installed.
        StorageError: the file cannot be written.
    """
    path = Path(path)
    kind = to or SUFFIXES.get(path.suffix.lower(), "")
    if kind not in _WRITERS:
        raise ModelError(
            "export",
            given=f"to={to!r}" if to else f"a file that ends with {path.suffix or 'nothing'!r}",
            expected=f"one of {', '.join(_WRITERS)}, or a file that ends with {', '.join(SUFFIXES)}",
            do="Name the format, as in to='safetensors'.",
        )
    if SUFFIXES.get(path.suffix.lower(), kind) != kind:
        raise ModelError(
            "export",
            given=f"to={to!r}, and a file that ends with {path.suffix!r}",
            expected=f"one that ends with {' or '.join(suffix for suffix, of in SUFFIXES.items() if of == kind)}",
            do="Give the file another name, or leave to= out.",
        )
    content = _WRITERS[kind](model, whole_number("export rows", rows))
    with storage(path):
        make_folder(path.parent, private=False)
    replace_file(path, content, mode=ANYBODY)
    return path


def _numpy(model: TrainedModel, rows: int) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(
        file, "w"
    ) as archive:  # what np.savez does, for any name: it takes none that is one of its own arguments
        for name, array in model.by_name().items():
            with archive.open(f"{name}.npy", "w", force_zip64=True) as entry:
                np.lib.format.write_array(entry, array, allow_pickle=False)
    return file.getvalue()


def _safetensors(model: TrainedModel, rows: int) -> bytes:
    return tensors(model.by_name(), {"round": model.round})


def _torch(model: TrainedModel, rows: int) -> bytes:
    state = model.state_dict()
    import torch

    file = io.BytesIO()
    torch.save(state, file)
    return file.getvalue()


def _iree(model: TrainedModel, rows: int) -> bytes:
    try:
        from iree import compiler
    except ImportError as error:
        raise MissingExtra("iree-base-compiler", extra="export", purpose="a model for IREE") from error
    function, leaves = model.function(), list(model.by_name().values())
    inputs = model.inputs.batch(rows)
    program = str(lowered(lambda x: function(leaves, x), inputs))
    try:
        compiled = compiler.compile_str(
            program,
            input_type="stablehlo",
            target_backends=["llvm-cpu"],
            extra_args=["--iree-llvmcpu-target-cpu=host"],
        )
    except compiler.CompilerToolError as error:
        raise ModelError(
            "export to IREE",
            given=" ".join(str(error).split())[:300],
            expected="a forward pass that IREE compiles",
            do="Export to onnx instead, or to safetensors.",
        ) from error
    assert compiled is not None, "what was not written to a file is returned"
    return compiled


def _onnx(model: TrainedModel, rows: int) -> bytes:
    from fairyring.runs.onnx import to_onnx

    named: Mapping[str, np.ndarray] = model.by_name()
    return to_onnx(model.function(), list(named.values()), list(named), model.inputs, rows)


_WRITERS: dict[str, Callable[[TrainedModel, int], bytes]] = {
    "numpy": _numpy,
    "safetensors": _safetensors,
    "torch": _torch,
    "onnx": _onnx,
    "iree": _iree,
}
