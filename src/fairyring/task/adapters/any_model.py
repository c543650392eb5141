"""A model of any supported kind, recognised and adapted."""

import inspect
import sys
from typing import Any

from fairyring.core.errors import ModelError
from fairyring.task.adapters._factory import parameters_of
from fairyring.task.adapters.equinox_module import from_equinox
from fairyring.task.adapters.functions import from_functions
from fairyring.task.adapters.nnx_module import from_nnx
from fairyring.task.adapters.torch_module import from_torch
from fairyring.task.model import Model
from fairyring.task.partly import Where, train_only


def as_model(model: Any, where: Where | None = None) -> Model:
    """Adapt a model of any supported kind to a `Model`.

    Args:
        model: a `Model`; a pair of functions `(init, apply)` (see `from_functions`); an Equinox module or a
            factory `key -> module` (see `from_equinox`); a Flax NNX module or a factory `rngs -> module` (see
            `from_nnx`); a PyTorch module (see `from_torch`). A factory is recognised by its class or by its parameter, `key` or `rngs`; if the
            parameter has another name, it receives a key.
        where: which parameters are trained, by their names: a pattern such as ``"head.*"``, several, or a function of a name. The others
            stay as they are and do not travel; see `train_only`. By default all are trained.

    Raises:
        ModelError: it is none of these, or cannot be trained; or `where` names no parameter.
        MissingExtra: the framework of the model is not installed.
    """
    return _adapted(model) if where is None else train_only(_adapted(model), where)


def _adapted(model: Any) -> Model:
    if isinstance(model, Model):
        return model
    if isinstance(model, tuple | list) and len(model) == 2 and all(callable(part) for part in model):
        return from_functions(*model)
    if _is_a(model, "equinox", "Module"):
        return from_equinox(model)
    if _is_a(model, "flax.nnx", "Module"):
        return from_nnx(model)
    if _is_a(model, "torch.nn", "Module") or _is_class_of(model, "torch.nn", "Module"):
        return from_torch(model)
    if callable(model) and not hasattr(model, "apply"):
        parameters = parameters_of(model)
        if "rngs" in parameters:
            return from_nnx(model)
        if "key" in parameters or sum(_required(p) for p in parameters.values()) == 1:
            return from_equinox(model)
    raise ModelError(
        "model",
        given=type(model).__name__ if not isinstance(model, type) else f"the class {model.__name__}",
        expected="functions (init, apply), a module of Equinox, Flax NNX or PyTorch, or a factory of one",
        do=(
            "A factory has one parameter, `key` (Equinox) or `rngs` (NNX); a PyTorch module is passed as it is. For any "
            "other kind of model write two functions, as in (lambda key: net.init(key, example), net.apply)."
        ),
    )


def _required(parameter: inspect.Parameter) -> bool:
    kinds = (inspect.Parameter.VAR_POSITIONAL, inspect.Parameter.VAR_KEYWORD)
    return parameter.default is inspect.Parameter.empty and parameter.kind not in kinds


def _is_a(model: Any, package: str, name: str) -> bool:
    """Whether `model` is an instance of a class of a package; without importing the package."""
    module = sys.modules.get(package)
    return module is not None and isinstance(model, getattr(module, name))


def _is_class_of(model: Any, package: str, name: str) -> bool:
    module = sys.modules.get(package)
    return module is not None and isinstance(model, type) and issubclass(model, getattr(module, name))
