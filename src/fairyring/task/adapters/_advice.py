"""What to write instead of an object that is no model, by what it is."""

import inspect
import os
from collections.abc import Callable, Mapping
from typing import Any, Never

from fairyring.core.errors import ModelError
from fairyring.task.adapters._factory import is_required, parameters_of
from fairyring.task.adapters._kinds import is_instance_of, origins

_MODULES = (("equinox", "Module"), ("flax.nnx", "Module"), ("torch.nn", "Module"), ("keras", "Layer"))
_EXPECTED = "functions (init, apply), a module of Equinox, Flax NNX, PyTorch or Keras, or a factory of one"


def refuse_model(model: Any) -> Never:
    """Raise the error that says what an object is, and what to write instead."""
    raise ModelError("model", given=_given(model), expected=_EXPECTED, do=_advice(model))


def is_transformed(model: Any) -> bool:
    """Whether `model` is what Haiku's `transform` returns: a pair of functions whose `apply` takes the key before the inputs."""
    return type(model).__name__ in ("Transformed", "TransformedWithState", "MultiTransformed") and isinstance(
        model, tuple
    )


def holds_modules(model: Any) -> bool:
    """Whether `model` is a list or tuple with a module in it."""
    return isinstance(model, list | tuple) and any(
        is_instance_of(part, *kind) for part in model for kind in _MODULES
    )


def is_foreign(model: Any) -> bool:
    """Whether `model` is of a framework that is not taken as it is, although one may be able to call it."""
    return bool(_of_framework(model))


def _given(model: Any) -> str:
    if isinstance(model, type):
        return f"the class {model.__name__}"
    if isinstance(model, list | tuple) and not is_transformed(model):
        return (
            f"a {type(model).__name__} of {', '.join(type(part).__name__ for part in model[:4]) or 'nothing'}"
        )
    if inspect.isroutine(model):
        return f"the function {model.__name__}{_signature(model)}"
    return type(model).__name__


def _advice(model: Any) -> str:
    if is_transformed(model):
        return (
            "Of Haiku's net = hk.transform(f) pass (lambda key: net.init(key, example), "
            "lambda params, x, key: net.apply(params, key, x)), where example is a batch of inputs; state is not carried."
        )
    if holds_modules(model):
        return "Pass one module: of a list of layers nn.Sequential(*layers), keras.Sequential(layers) or eqx.nn.Sequential(layers)."
    if isinstance(model, str | os.PathLike):
        return "Pass the model itself, such as fr.zoo.two_nn(features=64, classes=10). To go on from a file: fr.simulate(..., init=path)."
    if isinstance(model, Mapping):
        return "These look like parameters: pass (lambda key: params, apply) with apply(params, x) -> outputs [B, ...]."
    if advice := _of_framework(model):
        return advice
    if callable(model) and (inspect.isroutine(model) or isinstance(model, type)):
        return _of_function(model)
    return (
        "A factory has one parameter, `key` (Equinox) or `rngs` (NNX); any other module is passed as it is. For any "
        "other kind of model write two functions, as in (lambda key: net.init(key, example), net.apply)."
    )


# Where a class comes from, a part of its name if that matters -> what to write.
_FRAMEWORKS: tuple[tuple[str, str, str], ...] = (
    ("sklearn.", "", "Write fr.from_sklearn(estimator, features=..., classes=...), which gives the whole task with the estimator's own loss."),
    (
        "transformers.",
        "Flax",
        "Pass (lambda key: model.params, lambda params, x, key: model(x, params=params, dropout_rng=key, train=key is not None).logits), "
        "or load the PyTorch model of the same name.",
    ),
    ("transformers.", "TF", "Load the PyTorch model of the same name, as in AutoModelForSequenceClassification.from_pretrained(path)."),
    (
        "flax.linen.",
        "",
        "Pass (lambda key: net.init(key, example), net.apply), where example is a batch of inputs; with dropout "
        "lambda params, x, key: net.apply(params, x, train=key is not None, rngs={} if key is None else {'dropout': key}) in place of net.apply.",
    ),
    ("tensorflow.", "", "Write it with Keras 3 on JAX (KERAS_BACKEND=jax): a saved .keras file is loaded by keras.models.load_model(path)."),
    ("tf_keras.", "", "Use Keras 3 on JAX (KERAS_BACKEND=jax): a saved .keras file is loaded by keras.models.load_model(path)."),
    ("keras.", "", "Pass an instance of keras.Model, made with KERAS_BACKEND=jax."),
    ("xgboost.", "", "Trees are not trained by gradients. Take a network, such as fr.zoo.two_nn(features=64, classes=10)."),
    ("lightgbm.", "", "Trees are not trained by gradients. Take a network, such as fr.zoo.two_nn(features=64, classes=10)."),
)  # fmt: skip


def _of_framework(model: Any) -> str:
    kinds = origins(model)
    for begins, part, advice in _FRAMEWORKS:
        if any(kind.startswith(begins) and part in kind for kind in kinds):
            return advice
    return ""


def _of_function(function: Callable[..., Any]) -> str:
    """Of a function or a class whose parameters are not those of a factory."""
    parameters = parameters_of(function)
    required = [name for name, parameter in parameters.items() if is_required(parameter)]
    if isinstance(function, type):
        listed = ", ".join(required)
        return f"Pass an instance, {function.__name__}({listed}), or functools.partial({function.__name__}, ...) with one parameter left: `key` or `rngs`."
    if len(required) == 0:
        return "A factory has one parameter, `key` (Equinox) or `rngs` (NNX); a PyTorch module is passed as it is, and so is a Keras model."
    return (
        "A function alone has no parameters to train: pass (init, apply), with init(key) -> params and apply(params, x) -> outputs "
        "or apply(params, x, key)."
    )


def _signature(function: Callable[..., Any]) -> str:
    try:
        return str(inspect.signature(function))
    except (TypeError, ValueError):
        return ""
