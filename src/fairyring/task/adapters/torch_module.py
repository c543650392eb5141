"""A model as a PyTorch module."""

import copy
from threading import Lock
from typing import Any

import jax

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task.adapters._parameters import as_compute_dtypes, as_float32, dtypes_of, require_parameters
from fairyring.task.adapters._statistics import refuse_batch_normalisation, refuse_state
from fairyring.task.model import Model

# Tokens are int32 or smaller in JAX, and PyTorch's users write for int64.
_TORCH_DTYPES: dict[str, str] = dict.fromkeys(("int8", "int16", "int32", "uint16", "uint32"), "int64")


def from_torch(module: Any) -> Model:
    """Adapt a PyTorch module.

    The module takes a batch, `module(x)`, in PyTorch's order of axes: images are `[B, channels, height, width]`. It is
    exported (`torch.export`) once the shape of its input is known, and its graph is translated to JAX, operator by operator; nothing of
    it runs in PyTorch. The parameters are a dict by PyTorch's names, such as `"conv1.weight"`; one that several layers share is
    there once. Of a mapping with `"logits"`, as Hugging Face's models return, the logits are the outputs. Parameters with `requires_grad=False` and buffers are constants. With a key the module is in training mode, and
    dropout draws from the key; its rate is rounded to a multiple of 1/256. Without a key it is in evaluation mode.

    Args:
        module: an instance. Every run starts from its parameters (`init` ignores its key), as they are now; the module itself is
            not changed.

    Raises:
        MissingExtra: PyTorch is not installed.
        ModelError: `module` is not an instance of `torch.nn.Module`, has no parameters that are trained, or has batch
            normalisation. Where the model is first applied: it cannot be exported, or has an operator that is not translated.
    """
    try:
        import torch
    except ImportError as error:
        raise MissingExtra("torch", extra="torch", purpose="models as PyTorch modules") from error
    from fairyring.task.pytorch import Program, Weights, export

    _require_module(module)
    module = _copied(module)
    weights = Weights(module)
    start = weights.arrays()
    require_parameters(start)
    dtypes = dtypes_of(start)
    programs = _Programs()

    def program(shape: tuple[int, ...], dtype: str, train: bool) -> Program:
        kind = shape[1:], dtype, train
        with programs.lock:  # the runs of a sweep are threads
            found = programs.found.get(kind) or programs.found.get((shape[0], kind))
            if found is None:
                own = getattr(torch, _TORCH_DTYPES.get(dtype, dtype))
                found = Program(export(module, shape, own, train=train), weights)
                programs.found[kind if found.rows is None else (found.rows, kind)] = found
            return found

    def init(key: jax.Array) -> Any:
        return as_float32(start)

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        run = program(x.shape, x.dtype.name, key is not None)
        return run(as_compute_dtypes(params, dtypes), x, key)

    return Model(init, apply, weights.state_dict)


class _Programs:
    """Programs by the inputs that they are for. A copy of the model in another process exports its own."""

    def __init__(self) -> None:
        self.found: dict[Any, Any] = {}
        self.lock = Lock()

    def __reduce__(self) -> tuple[Any, ...]:
        return _Programs, ()


def _require_module(module: Any) -> None:
    import torch

    if not isinstance(module, torch.nn.Module):
        raise ModelError(
            "PyTorch model",
            given=f"the class {module.__name__}" if isinstance(module, type) else type(module).__name__,
            expected="an instance of torch.nn.Module",
            do="Pass the module itself, as in Net(); call torch.manual_seed(0) before for the same start weights.",
        )
    for name, layer in module.named_modules():
        where = f"{type(layer).__name__}, layer {name!r}" if name else type(layer).__name__
        if isinstance(layer, torch.nn.modules.batchnorm._BatchNorm):
            refuse_batch_normalisation(where, _group_norm(name, layer.num_features))
        if getattr(layer, "track_running_stats", False):
            refuse_state(where)
    for name, tensor in (*module.named_parameters(), *module.named_buffers()):
        if torch.nn.parameter.is_lazy(tensor) or tensor.is_meta:
            raise ModelError(
                f"PyTorch module {type(module).__name__}",
                given=f"{name!r}, which has no values yet",
                expected="parameters and buffers with values",
                do="Call a lazy module once with a batch; move one on the meta device with to_empty, and initialise it.",
            )


def _group_norm(name: str, features: Any) -> str:
    """What to write in place of batch normalisation."""
    groups = next((n for n in (32, 16, 8, 4, 2) if isinstance(features, int) and features % n == 0), 1)
    norm = f"nn.GroupNorm({min(groups, 8)}, {features})"
    if not name:
        return f"Write {norm}."
    return (
        f"Write {norm} in its place: module.set_submodule({name!r}, {norm}); for each of them, loop over "
        "list(module.named_modules())."
    )


def _copied(module: Any) -> Any:
    """A copy on the CPU, which later changes of the module do not reach."""
    import torch

    def in_32_bits(tensor: Any) -> Any:  # as JAX has it, so that inputs and parameters are of one type
        return tensor.float() if tensor.dtype == torch.float64 else tensor

    try:
        return copy.deepcopy(module).cpu()._apply(in_32_bits)
    except Exception as error:  # torch and the module's own code raise what they like
        raise ModelError(
            f"PyTorch module {type(module).__name__}",
            given=f"one that cannot be copied: {error}",
            expected="a module that copy.deepcopy copies",
            do="Use torch.nn.utils.parametrizations instead of older hooks, and keep tensors in parameters or buffers.",
        ) from error
