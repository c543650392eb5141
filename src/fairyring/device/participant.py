"""Taking part with a training of one's own: a hospital's PyTorch, scikit-learn, R or anything else that gives a model back.

The service's model comes in, the participant's comes out. What is compiled of the plan are its stages alone: they turn the difference
into the same report that any device sends, under the same clip, noise and masks. So nobody must trust a participant's training more than
that of a device: its influence is bounded by the stages.
"""

import json
import math
import re
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.core.errors import FairyringError, PlanError, TrainingFailed
from fairyring.device.by_command import Command
from fairyring.device.fitted import Fit, Fitted, Measure
from fairyring.device.runtimes import targets_here
from fairyring.device.training import Program, Trained, Trainer, trained
from fairyring.messages import Array, Manifest

PREFIX = "encode-"  # of the targets of programs that hold the stages alone
# They send an update of the model and nothing else, whatever a client's training is.
ALGORITHMS = ("averaging", "fedprox")
_PART = re.compile(r"\['([^']*)'\]|\[\"([^\"]*)\"\]|\[(\d+)\]|\.(\w+)")


class Participant:
    """Trains in an agent's rounds, in place of a `Trainer`.

    Args:
        fit: `(model by parameter name, number of the round) -> Fitted`. It is called in the agent's process; `of_command` starts another.
        trainer: runs the plan's stages; by default one of its own.

    Attributes:
        reads_examples: an agent need not load examples for it: `fit` has its own.
    """

    reads_examples = False

    def __init__(self, fit: Fit, *, trainer: Trainer | None = None) -> None:
        self._fit, self._trainer = fit, trainer or Trainer()

    @classmethod
    def of_command(
        cls,
        command: Sequence[str],
        *,
        seconds: float = 3600.0,
        files: str = "npz",
        trainer: Trainer | None = None,
    ) -> "Participant":
        """A participant whose training is a command, such as `["Rscript", "fit.R"]`, to which the path of a folder is added.

        In the folder are `model.npz`, the parameters by name, and `round.json`, with `round` and `parameters`: their names in order. The
        command writes `fitted.npz`, with the same names, and `fitted.json`, with `examples`, `loss`, and, if the task has some, `metrics`
        by name. The folder is its owner's alone, and is deleted afterwards.

        Args:
            command: and its arguments.
            seconds: that it may take.
            files: `npz`, or `safetensors`, which needs the package of that name.
            trainer: see `Participant`.
        """
        return cls(Command(command, seconds, files), trainer=trainer)

    @property
    def targets(self) -> tuple[str, ...]:
        """The targets to check in with: those of programs that hold the stages alone."""
        return tuple(PREFIX + target for target in targets_here())

    def train(
        self, manifest: Manifest, target: str, program: Program, values: Mapping[str, np.ndarray]
    ) -> Trained:
        """Call `fit`, and run the plan's stages on what it gives; see `Trainer.train`, whose other values are not used.

        Args:
            manifest: of the plan.
            target: one of its programs, such as `encode-iree-x86_64`.
            program: its bytes, or the path of a file with them.
            values: `params`, `round`, `client_key` and `shared_key`, as a plan's whole program takes them.

        Raises:
            PlanError: the plan is not for participants: its algorithm or its local noise needs the plan's own training.
            TrainingFailed: `fit` failed, or what it gives does not fit the plan.
        """
        refuse_unless_updates(manifest)
        if not target.startswith(PREFIX):
            raise PlanError(
                "target",
                given=repr(target),
                expected=f"one that begins with {PREFIX!r}",
                do="Let the plan's author publish it for participants, too.",
            )
        params = np.asarray(values["params"], np.float32)
        model = named(manifest, params)
        try:
            fitted = self._fit({name: array.copy() for name, array in model.items()}, int(values["round"]))
        except FairyringError:
            raise
        except Exception as error:
            raise TrainingFailed(
                "crashed",
                given=f"{type(error).__name__}: {error}"[:300],
                expected="a fit that returns",
                do="Nothing is sent; see the error that this one was made from.",
            ) from error
        update, auxiliary = self.values(manifest, params, fitted)
        arguments, results = encoding_forms(manifest)
        ran = self._trainer.run(
            target.removeprefix(PREFIX),
            program,
            arguments,
            results,
            {**values, "update": update, "auxiliary": auxiliary},
            self._trainer.bounds(manifest),
        )
        return trained(results, ran)

    def values(self, manifest: Manifest, params: np.ndarray, fitted: Fitted) -> tuple[np.ndarray, np.ndarray]:
        """What the stages take of a training.

        Args:
            manifest: of the plan.
            params: that were received: float32 `[parameters]`.
            fitted: what came of them.

        Returns:
            The update, float32 `[parameters]`; and what travels with it, float32 `[auxiliaries]`: weight, loss, metrics.

        Raises:
            TrainingFailed: a parameter or a measure is missing, or has another form.
        """
        model = named(manifest, params)
        given = {name: np.asarray(array) for name, array in fitted.model.items()}
        _same_names("parameters", given, model)
        for name, array in given.items():
            if array.shape != model[name].shape or array.dtype.kind not in "fiu":
                raise _unfit(
                    f"parameter {name!r} as {array.dtype} {list(array.shape)}",
                    f"numbers {list(model[name].shape)}",
                )
        # The difference of float32 numbers, as in a device's own training.
        flat = [given[name].astype(np.float32).ravel() - model[name].ravel() for name in model]
        update = np.concatenate(flat) if flat else np.zeros(0, np.float32)
        return update, _auxiliary(manifest, fitted)

    def close(self) -> None:
        """End what runs the stages."""
        self._trainer.close()


def refuse_unless_updates(manifest: Manifest) -> None:
    """Raise `PlanError` unless clients of a plan send updates of the model and nothing else of an algorithm's."""
    algorithm = next(iter(_document(manifest)["algorithm"]))
    names = {argument.name for argument in manifest.arguments}
    if (
        algorithm in ALGORITHMS
        and not names & {"client_state", "server_state"}
        and manifest.step_noise is None
    ):
        return
    raise PlanError(
        f"a participant with its own training in the plan {manifest.name!r}",
        given="noise in local steps" if manifest.step_noise is not None else f"the algorithm {algorithm}",
        expected=f"one of {', '.join(ALGORITHMS)}, without noise in local steps",
        do="Let a device run the plan's own training, or leave the plan out.",
    )


def encoding_forms(manifest: Manifest) -> tuple[tuple[Array, ...], tuple[Array, ...]]:
    """The arguments and the results of the program that holds a plan's stages: see `fairyring.learning.encoding`."""
    parameters = next(argument.size for argument in manifest.arguments if argument.name == "params")
    arguments = (
        Array("update", (parameters,), "<f4"),
        Array("auxiliary", (1 + _coordinates(_document(manifest)["task"]),), "<f4"),
        Array("client_key", (2,), "<u4"),
        Array("shared_key", (2,), "<u4"),
    )
    return arguments, tuple(result for result in manifest.results if result.name != "client_state")


def named(manifest: Manifest, params: np.ndarray) -> dict[str, np.ndarray]:
    """Flat parameters as arrays by name, such as `layers.0.weight`: float32, views of `params`.

    Raises:
        TrainingFailed: there are more parameters than the manifest says, or fewer.
    """
    arrays: list[np.ndarray] = []
    paths: list[list[str]] = []
    at = 0
    for form in manifest.model:
        if at >= len(params):
            break  # what follows is the algorithm's
        piece = params[at : at + form.size]
        if len(piece) == form.size:
            arrays.append(piece.reshape(form.shape))
        # The first part of a path says that it is a parameter.
        parts = ["".join(found) for found in _PART.findall(form.name)][1:]
        paths.append(parts or ["parameters"])
        at += form.size
    if at != len(params):
        raise _unfit(f"{len(params)} parameters", f"{at}, as the manifest says")
    for separator in (".", "/", "//"):
        names = [separator.join(parts) for parts in paths]
        if len(set(names)) == len(names):
            return dict(zip(names, arrays, strict=True))
    return {
        f"{place}/{'/'.join(parts)}": array
        for place, (parts, array) in enumerate(zip(paths, arrays, strict=True))
    }


def _document(manifest: Manifest) -> Any:
    return json.loads(manifest.document)


def _coordinates(task: Mapping[str, Any]) -> int:
    """How many numbers the loss and the metrics are, as they travel: see `fairyring.learning.measured`."""
    own = ["loss_weight_bound" in task, *("weight_bound" in metric for metric in task["metrics"])]
    return len(own) + sum(own)


def _auxiliary(manifest: Manifest, fitted: Fitted) -> np.ndarray:
    document = _document(manifest)
    task, examples = document["task"], fitted.examples
    if isinstance(examples, bool) or not isinstance(examples, int | np.integer) or examples < 1:
        raise _unfit(f"{examples!r} examples", "a whole number of at least 1")
    if fitted.weight is None and "importance" in document["local"]:
        column = document["local"]["importance"]
        raise _unfit(
            "no weight", f"weight=, the sum of the column {column!r}, by which clients of this plan count"
        )
    weight = float(examples if fitted.weight is None else fitted.weight)
    if not math.isfinite(weight) or weight < 0:
        raise _unfit(f"weight {weight}", "a finite number of at least 0")
    _same_names("metrics", fitted.metrics, [metric["name"] for metric in task["metrics"]])
    found = [weight, *_travels("loss", fitted.loss, own="loss_weight_bound" in task, weight=weight)]
    for metric in task["metrics"]:
        name = metric["name"]
        found += _travels(name, fitted.metrics[name], own="weight_bound" in metric, weight=weight)
    return np.array(found, np.float32)


def _travels(name: str, value: Measure, *, own: bool, weight: float) -> list[float]:
    """A measure as it travels: its mean; or, with weights of its own, both of its sums by the weight of the examples."""
    pair = isinstance(value, tuple | list)
    if pair != own or (isinstance(value, tuple | list) and len(value) != 2):
        raise _unfit(
            f"{name} as {value!r}"[:200],
            "a pair: the sum of its weighted values, and the sum of its weights"
            if own
            else "a number, the mean over the examples",
        )
    if isinstance(value, tuple | list):
        return [float(part) / max(weight, 1e-12) for part in value]
    return [float(value)]


def _same_names(what: str, given: Mapping[str, Any], expected: Mapping[str, Any] | Sequence[str]) -> None:
    if set(given) != set(expected):
        missing, more = sorted(set(expected) - set(given)), sorted(set(given) - set(expected))
        said = [f"no {name!r}" for name in missing] + [f"an unknown {name!r}" for name in more]
        raise _unfit(
            f"{what} with {', '.join(said)}"[:300], f"{what} {', '.join(map(repr, expected)) or 'none'}"[:300]
        )


def _unfit(given: str, expected: str) -> TrainingFailed:
    return TrainingFailed(
        "nonsense", given=given, expected=expected, do="Nothing is sent; correct what fit returns."
    )
