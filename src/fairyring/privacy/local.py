"""Local randomisers: each person's answer is randomised before it leaves the device.

They count categories without a secure sum. Up to a factor `e^epsilon`, a report is equally likely from any other answer, so
nobody needs to be trusted. The cost is in `variance`: the error of a count grows with the square root of the number of
reports, and no single answer can be relied on.

Probabilities are multiples of 2^-64, rounded in favour of privacy: the likelihood ratio of what is really drawn never
exceeds `e^epsilon`. `estimate` and `variance` use these probabilities, not those of the formula. Random words come from the
operating system, expanded with AES-256-CTR.
"""

import math
from decimal import Context, Decimal

import numpy as np

from fairyring.core.checks import whole_number
from fairyring.core.errors import PlanError
from fairyring.privacy.entropy import derive, fresh, require_key, words

MAXIMUM_CATEGORIES = 1 << 24
_WORDS = 1 << 64
# From here on, every probability of a lie is the smallest possible, 2^-64.
_LARGEST_EXPONENT = 64.0
_DECIMAL = Context(prec=60)
# Words drawn at a time: 16 MB.
_BATCH = 1 << 21


class RandomizedResponse:
    """k-ary randomised response: the true category is reported with probability p, each other with q (Warner 1965).

    `p = e^epsilon / (e^epsilon + k - 1)` and `q = 1 / (e^epsilon + k - 1)`; optimal if e^epsilon
    is large compared with k (Kairouz, Bonawitz, Ramage 2016, section 2). A report is one integer.

    Args:
        epsilon: epsilon of one report, above 0; a person who reports twice spends twice.
        categories: k, 2 to 2^24.

    Attributes:
        epsilon: as given.
        categories: as given.
        lie_words: number of words, of 2^64, that give each single false category; `q = lie_words / 2^64`.

    Raises:
        PlanError: an argument is out of range, or epsilon is so small that truth and lie cannot be distinguished.
    """

    def __init__(self, epsilon: float, categories: int) -> None:
        self.epsilon, self.categories = _require(epsilon, categories)
        others = categories - 1
        self.lie_words = _rounded_up(self.epsilon, others)
        truth = _WORDS - others * self.lie_words
        _require_signal(self.epsilon, truth - self.lie_words)
        self._lie, self._gap = self.lie_words / _WORDS, (truth - self.lie_words) / _WORDS

    def randomize(self, values: np.ndarray, entropy: bytes | None = None) -> np.ndarray:
        """One report for each value.

        Args:
            values: integers `[n]`, each below `categories`.
            entropy: 32 bytes, used for nothing else; by default fresh from the operating system.

        Returns:
            int64 `[n]`.

        Raises:
            PlanError: a value is not one of the categories.
            PrivacyError: `entropy` does not have 32 bytes.
        """
        values = _require_values("values", values, self.categories)
        drawn = words(fresh() if entropy is None else entropy, len(values))
        # The offset from the true category, for a lie; the remaining words are the
        # truth.
        steps = drawn // np.uint64(self.lie_words) + np.uint64(1)
        steps[steps >= np.uint64(self.categories)] = 0
        return (values + steps.astype(np.int64)) % self.categories

    def estimate(self, reports: np.ndarray) -> np.ndarray:
        """Unbiased estimates of the counts of each category: float64 `[categories]`; some may be below 0.

        Args:
            reports: integers `[n]` from `randomize`.

        Raises:
            PlanError: a report is not one of the categories.
        """
        reports = _require_values("reports", reports, self.categories)
        seen = np.bincount(reports, minlength=self.categories)
        return (seen - len(reports) * self._lie) / self._gap

    def variance(self, n: int) -> float:
        """Variance of an estimated count from `n` reports, for a rare category: n q (1 - q) / (p - q)^2."""
        return n * self._lie * (1 - self._lie) / self._gap**2


class UnaryEncoding:
    """Unary encoding: one bit per category. The true category's bit is 1 with probability p, each other's with q.

    Optimized (OUE, Wang, Blocki, Li, Jha 2017, section 4): `p = 1/2`, `q = 1 / (e^epsilon + 1)`, with the
    smallest variance for rare categories. Otherwise symmetric, as the permanent response of RAPPOR (Erlingsson, Pihur,
    Korolova 2014): `p = 1 - q`, `q = 1 / (e^(epsilon/2) + 1)`. The variance of a count does not depend on
    the number of categories; a report has that many independent bits.

    Args:
        epsilon: epsilon of one report, above 0; a person who reports twice spends twice.
        categories: k, 2 to 2^24.
        optimized: optimized or symmetric.

    Attributes:
        epsilon: as given.
        categories: as given.
        optimized: as given.
        true_words: number of words, of 2^64, that set the true bit; `p = true_words / 2^64`.
        lie_words: number of words that set another bit; `q = lie_words / 2^64`.

    Raises:
        PlanError: an argument is out of range, or epsilon is so small that truth and lie cannot be distinguished.
    """

    def __init__(self, epsilon: float, categories: int, optimized: bool = True) -> None:
        self.epsilon, self.categories = _require(epsilon, categories)
        self.optimized = optimized
        self.lie_words = _rounded_up(self.epsilon if optimized else self.epsilon / 2, 1)
        self.true_words = _WORDS // 2 if optimized else _WORDS - self.lie_words
        _require_signal(self.epsilon, self.true_words - self.lie_words)
        self._lie, self._gap = self.lie_words / _WORDS, (self.true_words - self.lie_words) / _WORDS

    def randomize(self, values: np.ndarray, entropy: bytes | None = None) -> np.ndarray:
        """One report for each value.

        Args:
            values: integers `[n]`, each below `categories`.
            entropy: 32 bytes, used for nothing else; by default fresh from the operating system.

        Returns:
            bool `[n, categories]`.

        Raises:
            PlanError: a value is not one of the categories.
            PrivacyError: `entropy` does not have 32 bytes.
        """
        values = _require_values("values", values, self.categories)
        root = require_key(fresh() if entropy is None else entropy)
        reports = np.empty((len(values), self.categories), np.bool_)
        rows = max(1, _BATCH // self.categories)
        for start in range(0, len(values), rows):
            part = reports[start : start + rows]
            drawn = words(derive(root, start), part.size).reshape(part.shape)
            np.less(drawn, np.uint64(self.lie_words), out=part)
            true = (np.arange(len(part)), values[start : start + rows])
            part[true] = drawn[true] < np.uint64(self.true_words)
        return reports

    def estimate(self, reports: np.ndarray) -> np.ndarray:
        """Unbiased estimates of the counts of each category: float64 `[categories]`; some may be below 0.

        Args:
            reports: bool `[n, categories]` from `randomize`.

        Raises:
            PlanError: `reports` has the wrong shape or type.
        """
        reports = np.asarray(reports)
        if reports.dtype != np.bool_ or reports.ndim != 2 or reports.shape[1] != self.categories:
            raise PlanError(
                "reports",
                given=f"{reports.dtype} {list(reports.shape)}",
                expected=f"bool [n, {self.categories}]",
                do="Give what randomize returned, one row per person.",
            )
        return (reports.sum(axis=0) - len(reports) * self._lie) / self._gap

    def variance(self, n: int) -> float:
        """Variance of an estimated count from `n` reports, for a rare category: n q (1 - q) / (p - q)^2."""
        return n * self._lie * (1 - self._lie) / self._gap**2


def _rounded_up(epsilon: float, others: int) -> int:
    """The smallest integer not below `2^64 / (e^epsilon + others)`."""
    odds = _DECIMAL.exp(Decimal(min(epsilon, _LARGEST_EXPONENT)))
    # e^epsilon is irrational, so the quotient is never an integer, and 60 digits show on which side of one it
    # is.
    return int(_DECIMAL.divide(Decimal(_WORDS), _DECIMAL.add(odds, Decimal(others)))) + 1


def _require(epsilon: float, categories: int) -> tuple[float, int]:
    real = isinstance(epsilon, float | int) and not isinstance(epsilon, bool)
    if not real or not 0 < epsilon < math.inf:
        raise PlanError(
            "epsilon",
            given=repr(epsilon),
            expected="a finite number above 0",
            do="Give the epsilon of one report, such as 1.0.",
        )
    do = "Give the number of possible answers."
    return float(epsilon), whole_number("categories", categories, least=2, most=MAXIMUM_CATEGORIES, do=do)


def _require_signal(epsilon: float, gap: int) -> None:
    if gap <= 0:
        raise PlanError(
            "epsilon",
            given=repr(epsilon),
            expected="enough for a true answer to be likelier than a false one by 2^-64",
            do="Give more, or ask for fewer categories.",
        )


def _require_values(what: str, values: np.ndarray, categories: int) -> np.ndarray:
    """`values` as int64 `[n]`, checked to be categories."""
    values = np.asarray(values)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        given = f"{values.dtype} {list(values.shape)}"
    elif len(values) and not (values.min() >= 0 and values.max() < categories):
        # Do not say which: an error must not contain anybody's answer.
        given = "values that are not categories"
    else:
        return values.astype(np.int64)
    raise PlanError(
        what,
        given=given,
        expected=f"integers [n] from 0 to {categories - 1}",
        do="Number the categories from 0.",
    )
