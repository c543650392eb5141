"""A model as a Keras model, on Keras's JAX backend."""

import re
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from fairyring.core.errors import MissingExtra, ModelError
from fairyring.task.adapters._kinds import is_class_of, is_instance_of
from fairyring.task.adapters._parameters import as_compute_dtypes, as_float32, dtypes_of, require_parameters
from fairyring.task.adapters._statistics import refuse_batch_normalisation, refuse_state
from fairyring.task.model import Model

_SEED = "seed_generator_state"  # the name of a SeedGenerator's variable


def from_keras(model: Any) -> Model:
    """Adapt a model of Keras 3 on its JAX backend: Sequential, functional, or a subclass that is built; or a single layer.

    The model takes a batch, `model(x)`, in its own order of axes; images are usually `[B, height, width, channels]`. It is called
    with `training=True` when there is a key, and with `training=False` without. What draws in it (dropout, noise, augmentation) draws
    from the key. Trainable variables are the parameters: a dict by their paths, such as `"sequential/dense/kernel"`. Keras counts layers
    through the life of a process; here they are counted afresh, so that the same model has the same names when it is made a second time.
    All other variables are constants, as they are now.

    Args:
        model: an instance. Every run starts from its weights (`init` ignores its key), as they are now; the model itself is
            not changed.

    Raises:
        MissingExtra: Keras is not installed.
        ModelError: Keras runs on another backend; `model` is no model or layer of it, is not built, has several inputs, has nothing that
            is trained, has batch normalisation that is trained, or has regularizers or constraints, which `Model.fit` would add. Where
            the model is first applied: it changes a variable, or adds a loss.
    """
    try:
        import keras
    except ImportError as error:
        raise MissingExtra("keras", extra="keras", purpose="models from Keras") from error

    _require_model(model)
    variables = _Variables(model)
    named, trainable = variables.named, {id(v) for v in model.trainable_variables}
    trained = frozenset(name for name, v in named.items() if id(v) in trainable)
    start = {name: np.array(v.value) for name, v in named.items() if name in trained}
    require_parameters(start)
    dtypes = dtypes_of(start)
    fixed = {name: np.array(v.value) for name, v in named.items() if name not in trained}
    del named  # of this model; what follows may be sent to another process, which makes another

    def init(key: jax.Array) -> Any:
        return as_float32(start)

    def apply(params: Any, x: jax.Array, key: jax.Array | None = None) -> Any:
        model, named = variables.model, variables.named
        params = as_compute_dtypes(params, dtypes)
        given = [
            (v, params[name] if name in trained else jnp.asarray(fixed[name])) for name, v in named.items()
        ]
        # Without a key nothing draws: dropout is off.
        drawn = (
            [(v, _seed(key, place, v.dtype)) for place, v in enumerate(variables.seeds)]
            if key is not None
            else []
        )
        with keras.StatelessScope(state_mapping=given + drawn, collect_losses=True) as scope:
            before = [scope.get_current_value(variable) for variable in named.values()]
            outputs = model(x, training=key is not None)
        for (name, variable), value in zip(named.items(), before, strict=True):
            if scope.get_current_value(variable) is not value:
                refuse_state(f"Keras variable {name!r}, which a call changes")
        if scope.losses:
            _refuse_loss(
                f"{type(model).__name__}, whose layers add losses of their own (add_loss, activity_regularizer)"
            )
        return outputs

    def into(params: Any, other: Any, rounds: int) -> Any:
        return into_keras(fixed | {name: np.asarray(value) for name, value in params.items()}, other)

    return Model(init, apply, into=into)


class _Variables:
    """A model with its variables by name, and those of its seeds.

    A copy in another process has those of its own model, in the same order and by the same names: Keras builds it anew, and may name its
    variables after other layers around them.

    Args:
        model: whose.
        names: in the order of its variables; by default `_named` gives them.
    """

    def __init__(self, model: Any, names: tuple[str, ...] | None = None) -> None:
        own = [v for v in model.variables if v.name != _SEED]
        self.model = model
        self.named = _named(model) if names is None else dict(zip(names, own, strict=True))
        self.seeds = [v for v in model.variables if v.name == _SEED]

    def __reduce__(self) -> tuple[Any, ...]:
        return _Variables, (self.model, tuple(self.named))


def is_keras(model: Any) -> bool:
    """Whether `model` is a model or a layer of Keras 3; without importing it."""
    return is_instance_of(model, "keras", "Layer")


def into_keras(values: Mapping[str, np.ndarray], model: Any) -> Any:
    """Set the weights of a Keras model, in place, and return it.

    Args:
        values: each weight by its name, as in `from_keras`: those that are trained, and those that are not.

    Raises:
        ModelError: `model` is no built model of Keras, or has other weights.
    """
    if not is_keras(model):
        raise ModelError(
            "run.into(model)",
            given=type(model).__name__,
            expected="a Keras model like the one that was trained",
            do="Pass the model that the task was given, or one that the same code makes.",
        )
    _require_built(model)
    named = _named(model)
    for name in sorted({*named, *values}):
        own, value = named.get(name), values.get(name)
        if own is None or value is None or tuple(own.shape) != np.shape(value):
            raise ModelError(
                "run.into(model)",
                given=f"a model without {name!r}"
                if own is None
                else f"a model with {name!r} of shape {tuple(own.shape)}",
                expected="none: the run has no such weight"
                if value is None
                else f"{name!r} of shape {np.shape(value)}",
                do=(
                    "Pass a model that the same code makes. Weights that were not trained are with the plan: "
                    "fr.load_run(folder, plan=plan)."
                ),
            )
    for name, own in named.items():
        own.assign(values[name])
    return model


def _named(model: Any) -> dict[str, Any]:
    """The variables of a model but its seeds, by their paths, in which layers are counted afresh.

    Without that, the second `Dense` of a process would be `dense_1` in one process, and `dense_7` in another.
    """
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    for layer in _within(model):
        kind = _snake_case(type(layer).__name__)
        automatic = re.fullmatch(rf"((?:forward_|backward_)?{re.escape(kind)})(?:_\d+)?", layer.name)
        if automatic and layer.name not in names:
            base = automatic[1]
            names[layer.name] = f"{base}_{counts[base]}" if counts[base] else base
            counts[base] += 1
    found: dict[str, Any] = {}
    for variable in model.variables:
        if variable.name == _SEED:
            continue
        path = "/".join(names.get(part) or part for part in variable.path.split("/"))
        free = (path, *(f"{path}_{place}" for place in range(1, len(found) + 1)))
        found[next(name for name in free if name not in found)] = variable
    return found


def _within(layer: Any, seen: set[int] | None = None) -> Iterator[Any]:
    """A layer and all layers in it, each once, in the order in which they were put there."""
    seen = set() if seen is None else seen
    if id(layer) not in seen:
        seen.add(id(layer))
        yield layer
        for inner in layer._layers:
            yield from _within(inner, seen)


def _snake_case(name: str) -> str:
    """A class's name as Keras makes layers' names of it."""
    name = re.sub("(.)([A-Z][a-z]+)", r"\1_\2", re.sub(r"\W+", "", name))
    return re.sub("([a-z])([A-Z])", r"\1_\2", name).lower()


def _seed(key: jax.Array, place: int, dtype: str) -> jax.Array:
    """The state of a SeedGenerator: two words. Keras takes them as a key, and adds 1 to the second after each use."""
    return jax.random.bits(jax.random.fold_in(key, place), (2,), "uint32").astype(dtype)


def _require_model(model: Any) -> None:
    import keras

    if keras.config.backend() != "jax":
        raise ModelError(
            "Keras model",
            given=f"Keras on the backend {keras.config.backend()!r}",
            expected="the backend 'jax'",
            do=(
                "Set it before keras is imported for the first time: os.environ['KERAS_BACKEND'] = 'jax', or KERAS_BACKEND=jax "
                "before the command. Models that were saved with another backend load as they are: keras.models.load_model(path)."
            ),
        )
    if not is_keras(model):
        raise ModelError(
            "Keras model",
            given=f"the class {model.__name__}" if isinstance(model, type) else type(model).__name__,
            expected="an instance of keras.Model"
            + (", built" if is_class_of(model, "keras", "Layer") else ""),
            do="Pass the model itself; call keras.utils.set_random_seed(0) before it is made for the same start weights.",
        )
    _require_built(model)
    inputs = getattr(model, "inputs", None)  # a subclass has none
    if isinstance(inputs, list) and len(inputs) > 1:
        raise ModelError(
            f"Keras model {model.name!r}",
            given=f"{len(inputs)} inputs",
            expected="one input: the column that the task reads",
            do="Put them side by side in one column, and take them apart in the model: x[:, :10] and x[:, 10:].",
        )
    for layer in _within(model):
        # One that is frozen computes with the statistics that it has, so it is a constant.
        if isinstance(layer, keras.layers.BatchNormalization) and layer.trainable:
            refuse_batch_normalisation(
                f"layer {layer.name!r}",
                "Write keras.layers.GroupNormalization(8) or LayerNormalization() in its place.",
            )
        if getattr(layer, "activity_regularizer", None) is not None:
            _refuse_loss(f"an activity_regularizer in layer {layer.name!r}")
    for variable in model.trainable_variables:
        if variable.regularizer is not None:
            _refuse_loss(f"a regularizer of {variable.path!r}")
        if variable.constraint is not None:
            raise ModelError(
                f"Keras model {model.name!r}",
                given=f"a constraint on {variable.path!r}",
                expected="weights that may be any number: clients' updates are added up, and their sum keeps no constraint",
                do="Leave it out, or write the layer with a function of a free weight, such as keras.ops.softplus.",
            )


def _require_built(model: Any) -> None:
    if not model.built:
        raise ModelError(
            f"Keras model {model.name!r}",
            given="one that is not built: it has no weights yet",
            expected="a model that knows the shape of its input",
            do="Begin it with keras.Input(shape), or call it once on a batch, as in model(population.client(0)['x'][:1]).",
        )


def _refuse_loss(given: str) -> None:
    raise ModelError(
        "Keras model",
        given=given,
        expected="a model without losses of its own: the task has the loss",
        do=(
            "Leave it out. For an L2 regularizer write LocalTraining(optax.chain(optax.add_decayed_weights(2 * strength), optax.sgd(...))); "
            "of a model that is there, set variable.regularizer = None for each of model.trainable_variables."
        ),
    )
