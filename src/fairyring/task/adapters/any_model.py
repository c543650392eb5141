"""A model of any supported kind, recognised and adapted."""

from typing import Any

from fairyring.task.adapters._advice import holds_modules, is_foreign, is_transformed, refuse_model
from fairyring.task.adapters._factory import is_required, parameters_of
from fairyring.task.adapters._kinds import is_class_of, is_instance_of
from fairyring.task.adapters.equinox_module import from_equinox
from fairyring.task.adapters.functions import from_functions
from fairyring.task.adapters.keras_model import from_keras, is_keras
from fairyring.task.adapters.nnx_module import from_nnx
from fairyring.task.adapters.torch_module import from_torch
from fairyring.task.model import Model
from fairyring.task.partly import Where, train_only


def as_model(model: Any, where: Where | None = None) -> Model:
    """Adapt a model of any supported kind to a `Model`.

    Args:
        model: a `Model`; a pair of functions `(init, apply)` (see `from_functions`); an Equinox module or a
            factory `key -> module` (see `from_equinox`); a Flax NNX module or a factory `rngs -> module` (see
            `from_nnx`); a PyTorch module (see `from_torch`); a Keras model (see `from_keras`). A factory is recognised by its class or by
            its parameter, `key` or `rngs`; if the parameter has another name, it receives a key.
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
    if is_transformed(model) or holds_modules(model):
        refuse_model(model)
    if isinstance(model, tuple | list) and len(model) == 2 and all(callable(part) for part in model):
        return from_functions(*model)
    # First of all, since with other backends its layers are also modules of PyTorch or of NNX.
    if is_keras(model) or is_class_of(model, "keras", "Layer"):
        return from_keras(model)
    if is_instance_of(model, "equinox", "Module"):
        return from_equinox(model)
    if is_instance_of(model, "flax.nnx", "Module"):
        return from_nnx(model)
    if is_instance_of(model, "torch.nn", "Module") or is_class_of(model, "torch.nn", "Module"):
        return from_torch(model)
    if callable(model) and not is_foreign(model) and not hasattr(model, "apply"):
        parameters = parameters_of(model)
        if "rngs" in parameters:
            return from_nnx(model)
        if "key" in parameters or sum(is_required(p) for p in parameters.values()) == 1:
            return from_equinox(model)
    refuse_model(model)
