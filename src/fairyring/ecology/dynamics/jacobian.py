"""The Jacobian of a learning rule, and its antisymmetric share."""

import sys
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from fairyring.core.errors import EcologyError
from fairyring.statistics import samples
from fairyring.statistics.samples import Floats


def antisymmetric_share(jacobian: npt.ArrayLike) -> float:
    """`|A| / (|S| + |A|)` of a Jacobian `[n, n]`, in Frobenius norms, where S and A are its symmetric and antisymmetric parts.

    It is 0 for a gradient field (a potential game) and 1 for a pure rotation (matching pennies, a Hamiltonian game); the
    decomposition is that of Balduzzi et al. (2018). It depends on the coordinates: rescaling one changes it, so the number
    should be reported with its units. A Jacobian of zeros gives 0.

    Raises:
        EcologyError, StatisticsError: not square, or not finite.
    """
    j = samples.array("jacobian", jacobian, axes=2)
    if j.shape[0] != j.shape[1]:
        raise EcologyError(
            "jacobian",
            given=f"shape {j.shape}",
            expected="[n, n]",
            do="Differentiate all updates with respect to all parameters.",
        )
    turning, straight = np.linalg.norm(j - j.T), np.linalg.norm(j + j.T)
    both = float(turning + straight)
    return float(turning) / both if both > 0.0 else 0.0


def learning_jacobian(update: Callable[[Any], Any], point: Any) -> Floats:
    """The Jacobian `[n, n]` (float64) of a joint update of all learners' parameters, at a point.

    `update` is the simultaneous step of all learners, or its direction: what is added to the parameters, not the parameters
    after it. The Jacobian of the latter contains the identity, and so has a larger symmetric part.

    Args:
        update: maps an array to one of the same shape. For a JAX array it is differentiated by `jax.jacfwd`, in the
            precision of the array. For anything else it is a NumPy function, and central differences are taken in float64
            with steps of `eps^(1/3) max(1, |x|)`.
        point: n numbers, of any shape.

    Raises:
        EcologyError, StatisticsError: the update has another shape, or something is not finite.
    """
    jax = sys.modules.get("jax")  # a JAX array exists only after this import
    if jax is not None and isinstance(point, jax.Array):
        _same_shape(jax.eval_shape(update, point).shape, point.shape)
        jacobian = np.asarray(jax.jacfwd(update)(point), np.float64).reshape(point.size, point.size)
    else:
        at = np.array(point, np.float64)
        flat = samples.array("point", at.ravel(), axes=1)
        steps = np.cbrt(np.finfo(np.float64).eps) * np.maximum(1.0, np.abs(flat))
        jacobian = np.empty((flat.size, flat.size))
        for i, step in enumerate(steps):
            ends = []
            for moved in (flat[i] + step, flat[i] - step):
                there = flat.copy()
                there[i] = moved
                value = np.asarray(update(there.reshape(at.shape)), np.float64)
                _same_shape(value.shape, at.shape)
                ends.append(value.ravel())
            jacobian[:, i] = (ends[0] - ends[1]) / ((flat[i] + step) - (flat[i] - step))
    return samples.array("jacobian", jacobian, axes=2)


def _same_shape(given: tuple[int, ...], expected: tuple[int, ...]) -> None:
    if given != expected:
        raise EcologyError(
            "update",
            given=f"shape {given}",
            expected=f"{expected}, as the point",
            do="Return a change for each parameter.",
        )
