"""Measuring reconstruction attacks: exact reads against chance, and errors against a guess without any update.

A single update in the clear is as good as the data: a dense layer with a bias reveals its input exactly, and other models
nearly so. The same attacks measure what the sum of a cohort reveals. What was read is shown. What was not read is never
called safe: these attacks did not read it, but others may.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.core.vector import Layout, Slot
from fairyring.privacy._matching import match_gradient, match_gradients

__all__ = [
    "Comparison",
    "blind",
    "find_dense",
    "infer_label",
    "invert_dense",
    "match_gradient",
    "match_gradients",
    "not_better_than_blind",
    "score",
]


def find_dense(layout: Layout, features: int) -> tuple[Slot, Slot] | None:
    """The weight and bias of a dense layer that reads an input with so many features, found by their shapes.

    The weight has two axes, one of length `features`. The bias has the length of the other, and is in the same module, or
    next to the weight in a tree without modules. Returns the first such pair, or None. In a model with convolutions, whose
    weights have three or more axes, no dense layer reads the input itself, so the result is None.
    """
    if any(len(slot.shape) > 2 for slot in layout.slots):
        return None
    for weight in layout.slots:
        if len(weight.shape) != 2 or features not in weight.shape:
            continue
        units = weight.shape[1] if weight.shape[0] == features else weight.shape[0]
        for bias in layout.slots:
            if bias.shape == (units,) and _module(bias) == _module(weight):
                return weight, bias
    return None


def _module(slot: Slot) -> str:
    """The path of a leaf without its last step: `.first` of `.first.weight`, `['a']` of `['a']['kernel']`."""
    return slot.path[: max(slot.path.rfind("."), slot.path.rfind("["), 0)]


def invert_dense(
    weight_change: np.ndarray, bias_change: np.ndarray, *, inputs_first: bool | None = None
) -> np.ndarray:
    """The input of a dense layer from the change of its weight and bias: float64 `[in]`, exact for one example.

    The gradient of unit i is `dL/db_i` for its bias and `dL/db_i x` for its weights, so their quotient is the input `x`
    (Phong et al. 2018, section 3; Boenisch et al. 2023, section 3). All units together by least squares:
    `x = sum_i dW_i db_i / sum_i db_i^2`. Any common factor cancels: learning rate, clip, weight. Several steps of SGD on the same
    example, also with momentum, are as exact, since `x` is the same in all of them; with weight decay or adaptive rates they
    are not. For a batch, or several examples in turn, the result is a mean weighted by how much each example moved the
    units, with weights of either sign.

    Args:
        weight_change: `[in, out]` or `[out, in]`.
        bias_change: `[out]`.
        inputs_first: which of the two shapes; by default found from the shapes, and True if square.

    Raises:
        PlanError: the shapes do not match, or no bias has changed, so nothing reached the layer.
    """
    weight, bias = np.asarray(weight_change, np.float64), np.asarray(bias_change, np.float64)
    fits = weight.ndim == 2 and bias.ndim == 1 and bias.size in weight.shape
    if inputs_first is None and fits:
        inputs_first = weight.shape[1] == bias.size
    if not fits or weight.shape[1 if inputs_first else 0] != bias.size:
        raise PlanError(
            "change of a dense layer",
            given=f"a weight of shape {weight.shape} and a bias of shape {bias.shape}",
            expected="[in, out] or [out, in], and [out]",
            do="Take the weight and the bias that find_dense names.",
        )
    largest = float(np.max(np.abs(bias), initial=0.0))
    if not (math.isfinite(largest) and largest > 0.0 and np.isfinite(weight).all()):
        raise PlanError(
            "change of a dense layer",
            given=f"a largest change of a bias of {largest:g}",
            expected="finite changes, of some bias above 0",
            do="A unit that did not fire keeps its input; take an update in which one did.",
        )
    scaled = bias / largest  # so that squares of tiny changes do not underflow
    return (weight if inputs_first else weight.T) @ scaled / (scaled @ scaled) / largest


def infer_label(bias_gradient: np.ndarray) -> int | None:
    """The class of a single example, from the gradient of the last layer's bias, `[classes]`; None if it is ambiguous.

    Under cross-entropy that gradient is the probabilities minus the label, so it is negative only for the true class (Zhao
    et al. 2020, "iDLG"). For an SGD step, the gradient is the negative change.
    """
    negative = np.flatnonzero(np.asarray(bias_gradient) < 0.0)
    return int(negative[0]) if len(negative) == 1 else None


def blind(images: np.ndarray) -> np.ndarray:
    """The best guess without knowledge of the target: the mean of images `[n, ...]` of the population, float32 `[...]`.

    Raises:
        PlanError: there are no images.
    """
    images = np.asarray(images)
    if images.ndim < 1 or not len(images):
        raise PlanError(
            "images of the blind guess",
            given=f"shape {images.shape}",
            expected="[n, ...] with n >= 1",
            do="Pass examples of the population that are not the target.",
        )
    return images.mean(axis=0, dtype=np.float64).astype(np.float32)


def score(image: np.ndarray, truth: np.ndarray, *, peak: float = 1.0) -> dict[str, float]:
    """How near a reconstruction is to the truth, or to the nearest of several truths.

    Judge the attack and the blind guess against the same truths: for an average over a cohort, all its examples.

    Args:
        image: `[...]`.
        truth: `[...]`, or `[n, ...]` of which the nearest by mean squared error counts.
        peak: the range of a pixel.

    Returns:
        `mse`, the mean squared error; `psnr`, `10 log10(peak^2 / mse)` in dB, at most 100; `cosine`, the cosine similarity
        after subtracting the means.

    Raises:
        PlanError: the shapes do not match, or a number is not finite.
    """
    image, truth = np.asarray(image, np.float64), np.asarray(truth, np.float64)
    truths = truth[None] if truth.shape == image.shape else truth
    finite = np.isfinite(image).all() and np.isfinite(truth).all()
    if truths.shape[1:] != image.shape or not len(truths) or not finite:
        raise PlanError(
            "reconstruction",
            given=f"shape {image.shape}, {'finite' if finite else 'not finite'}, for truths of shape {truth.shape}",
            expected="finite numbers in the shape of one truth",
            do="Reshape both to the image, and do not score an attack that gave none.",
        )
    errors = ((truths - image) ** 2).reshape(len(truths), -1).mean(axis=1)
    nearest = int(errors.argmin())
    mse = float(errors[nearest])
    first, second = image - image.mean(), truths[nearest] - truths[nearest].mean()
    lengths = float(np.linalg.norm(first) * np.linalg.norm(second))
    return {
        "mse": mse,
        "psnr": 10.0 * math.log10(peak**2 / max(mse, 1e-10 * peak**2)),
        "cosine": float((first * second).sum()) / lengths if lengths > 0.0 else 0.0,
    }


@dataclass(frozen=True)
class Comparison:
    """An attack compared with the blind guess, target by target.

    Attributes:
        targets: number of targets.
        nearer: number of targets for which the attack was nearer.
        attack: median error of the attack.
        blind: median error of the blind guess.
        p: probability of at least so many if either were equally likely to be nearer.
        level: the attack is better if `p` is at most this.
    """

    targets: int
    nearer: int
    attack: float
    blind: float
    p: float
    level: float

    @property
    def not_better(self) -> bool:
        """Whether these targets do not show that the attack is better than the blind guess."""
        return self.p >= self.level

    @property
    def statement(self) -> str:
        """In words."""
        return f"{'Not better' if self.not_better else 'Better'} than blind: {self.figures}."

    @property
    def figures(self) -> str:
        """The numbers as text."""
        return (
            f"nearer than the blind guess for {self.nearer} of {self.targets} targets (p {self.p:.2g}), "
            f"median error {self.attack:.3g} against {self.blind:.3g}"
        )


def minimum_targets(level: float = 0.05) -> int:
    """Smallest number of targets on which an attack can be shown to be better than the blind guess, at this level."""
    return math.ceil(-math.log2(level))


def not_better_than_blind(
    attack: Sequence[float], blind: Sequence[float], *, level: float = 0.05
) -> Comparison:
    """Compares the errors of an attack and of the blind guess on the same targets by an exact one-sided sign test.

    A tie counts for neither. "Not better" only means that these targets do not show it: the more targets, the more that
    means.

    Args:
        attack: errors `[n]`, as `score(...)["mse"]`; infinite if the attack gave nothing.
        blind: errors `[n]`.
        level: significance level.

    Raises:
        PlanError: the targets are not the same, or too few for any attack to be shown to be better.
    """
    first, second = np.asarray(attack, np.float64), np.asarray(blind, np.float64)
    if first.shape != second.shape or first.ndim != 1 or 0.5 ** len(first) > level or np.isnan(first).any():
        raise PlanError(
            "targets of a reconstruction",
            given=f"errors of shapes {first.shape} and {second.shape}",
            expected=f"{minimum_targets(level)} or more numbers each",
            do="Attack more targets, and score attack and blind guess on each.",
        )
    nearer, apart = int((first < second).sum()), int((first != second).sum())
    tail = sum(math.comb(apart, k) for k in range(nearer, apart + 1)) / 2**apart
    return Comparison(len(first), nearer, float(np.median(first)), float(np.median(second)), tail, level)
