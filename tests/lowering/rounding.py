"""How much a convolution in Winograd's form may differ from another form, in float32.

An output is `A^T ((G w G^T) * (B^T x B)) A`, summed over channels. Each of its terms is rounded, and they are larger
than what they add up to. For independent x and w of variance 1 the terms of an output of one axis have together the
variance sum_j A_ij^2 |B_j|^2 |G_j|^2, and the output has 3, the length of the kernel; two axes, the square. What
roundings add up to, as independent errors of one unit each, grows with the root of how many follow each other
(Higham and Mary, "A new approach to probabilistic rounding error analysis", 2019). Six deviations are never seen.
"""

from typing import Any

import jax
import numpy as np

from fairyring.lowering._winograd import _MATRICES

UNIT = 2.0**-24
DEVIATIONS = 6


def winograd(m: int, channels: int = 16) -> float:
    """The largest error of F(m, 3) by chance, as a fraction of the size of the outputs."""
    data, kernel, output = (np.array(matrix, float) for matrix in _MATRICES[m])
    terms = output**2 @ ((data**2).sum(1) * (kernel**2).sum(1))
    grown = float(terms.max()) / 3  # of two axes: the root of the square
    in_a_row = 2 * (m + 2) + 2 * 3 + 1 + channels + 2 * (m + 2)
    return DEVIATIONS * UNIT * in_a_row**0.5 * grown


def near(got: Any, expected: Any, share: float | None = None) -> None:
    """Assert that no number differs from the expected one by more than `share` of the largest in its array."""
    share = winograd(4) if share is None else share

    def one(a: Any, b: Any) -> None:
        a, b = np.asarray(a), np.asarray(b)
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=share * max(float(np.abs(b).max(initial=0)), 1e-30))

    jax.tree.map(one, got, expected)
