"""Local randomisers: each person's answer is made deniable before it leaves the device.

For counts over categories where there is no secure sum. A report is as likely, up to a factor `e^epsilon`,
from any other answer: nobody needs to be trusted with anything. What that costs is in `variance`: the error
of a count grows with the square root of how many report, and no single answer can be relied on.

Chances are whole numbers of 2^64, rounded to the side of the person: the ratio of likelihoods of what is
really drawn never exceeds `e^epsilon`, and `estimate` and `variance` are of those chances, not of the
formula's. Words come from the operating system, expanded with AES-256-CTR.
"""

import math
from decimal import Context, Decimal

import numpy as np

from fairyring.core.errors import PlanError
from fairyring.privacy.entropy import derive, fresh, require_key, words

MAXIMUM_CATEGORIES = 1 << 24
_WORDS = 1 << 64
# From here on every chance of a lie is the least one there is, 2^-64.
_LARGEST_EXPONENT = 64.0
_DECIMAL = Context(prec=60)
# Words at once: 16 MB.
_BATCH = 1 << 21


class RandomizedResponse:
    """One category is reported: the true one with chance p, each other with chance q (Warner 1965, k-ary).

    `p = e^epsilon / (e^epsilon + k - 1)` and `q = 1 / (e^epsilon + k - 1)`; the best there is where e^epsilon
    is large beside k (Kairouz, Bonawitz, Ramage 2016, section 2). A report is one number.

    Args:
        epsilon: of one report, above 0; a person who reports twice spends twice.
        categories: k, 2 to 2^24.

    Attributes:
        epsilon: as given.
        categories: as given.
        lie_words: of 2^64 words, how many make each single false category; `q = lie_words / 2^64`.

    Raises:
        PlanError: an argument is not as above, or epsilon is so small that truth and lie cannot be told
            apart.
    """

    def __init__(self, epsilon: float, categories: int) -> None:
        self.epsilon, self.categories = _require(epsilon, categories)
        others = categories - 1
        self.lie_words = _rounded_up(self.epsilon, others)
        truth = _WORDS - others * self.lie_words
        _require_signal(self.epsilon, truth - self.lie_words)
        self._lie, self._gap = self.lie_words / _WORDS, (truth - self.lie_words) / _WORDS

    def randomize(self, values: np.ndarray, entropy: bytes | None = None) -> np.ndarray:
        """A report of each value.

        Args:
            values: integers `[n]`, each below `categories`.
            entropy: 32 bytes used for nothing else; by default fresh from the operating system.

        Returns:
            int64 `[n]`.

        Raises:
            PlanError: a value is not one of the categories.
            PrivacyError: `entropy` does not have 32 bytes.
        """
        values = _require_values("values", values, self.categories)
        drawn = words(fresh() if entropy is None else entropy, len(values))
        # How many categories on from the true one, if it is to be another; the rest of the words are the
        # truth.
        steps = drawn // np.uint64(self.lie_words) + np.uint64(1)
        steps[steps >= np.uint64(self.categories)] = 0
        return (values + steps.astype(np.int64)) % self.categories

    def estimate(self, reports: np.ndarray) -> np.ndarray:
        """How many have each category: float64 `[categories]`, unbiased, so that some may be below 0.

        Args:
            reports: integers `[n]`, of `randomize`.

        Raises:
            PlanError: a report is not one of the categories.
        """
        reports = _require_values("reports", reports, self.categories)
        seen = np.bincount(reports, minlength=self.categories)
        return (seen - len(reports) * self._lie) / self._gap

    def variance(self, n: int) -> float:
        """Variance of one estimated count of `n` reports, for a rare category: n q (1 - q) / (p - q)^2."""
        return n * self._lie * (1 - self._lie) / self._gap**2


class UnaryEncoding:
    """A bit a category is reported: the true one's is 1 with chance p, each other's with chance q.

    Optimized (OUE, Wang, Blocki, Li, Jha 2017, section 4): `p = 1/2`, `q = 1 / (e^epsilon + 1)`, of least
    variance for rare categories. Else symmetric, as the permanent response of RAPPOR (Erlingsson, Pihur,
    Korolova 2014): `p = 1 - q`, `q = 1 / (e^(epsilon/2) + 1)`. The variance of a count does not depend on how
    many categories there are; a report is as many bits, drawn independently.

    Args:
        epsilon: of one report, above 0; a person who reports twice spends twice.
        categories: k, 2 to 2^24.
        optimized: which of the two.

    Attributes:
        epsilon: as given.
        categories: as given.
        optimized: as given.
        true_words: of 2^64 words, how many make the true bit 1; `p = true_words / 2^64`.
        lie_words: how many make another bit 1; `q = lie_words / 2^64`.

    Raises:
        PlanError: an argument is not as above, or epsilon is so small that truth and lie cannot be told
            apart.
    """

    def __init__(self, epsilon: float, categories: int, optimized: bool = True) -> None:
        self.epsilon, self.categories = _require(epsilon, categories)
        self.optimized = optimized
        self.lie_words = _rounded_up(self.epsilon if optimized else self.epsilon / 2, 1)
        self.true_words = _WORDS // 2 if optimized else _WORDS - self.lie_words
        _require_signal(self.epsilon, self.true_words - self.lie_words)
        self._lie, self._gap = self.lie_words / _WORDS, (self.true_words - self.lie_words) / _WORDS

    def randomize(self, values: np.ndarray, entropy: bytes | None = None) -> np.ndarray:
        """A report of each value.

        Args:
            values: integers `[n]`, each below `categories`.
            entropy: 32 bytes used for nothing else; by default fresh from the operating system.

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
        """How many have each category: float64 `[categories]`, unbiased, so that some may be below 0.

        Args:
            reports: bool `[n, categories]`, of `randomize`.

        Raises:
            PlanError: `reports` has another shape or type.
        """
        reports = np.asarray(reports)
        if reports.dtype != np.bool_ or reports.ndim != 2 or reports.shape[1] != self.categories:
            raise PlanError(
                "reports",
                given=f"{reports.dtype} {list(reports.shape)}",
                expected=f"bool [n, {self.categories}]",
                do="Give what randomize returned, one row a person.",
            )
        return (reports.sum(axis=0) - len(reports) * self._lie) / self._gap

    def variance(self, n: int) -> float:
        """Variance of one estimated count of `n` reports, for a rare category: n q (1 - q) / (p - q)^2."""
        return n * self._lie * (1 - self._lie) / self._gap**2


def _rounded_up(epsilon: float, others: int) -> int:
    """The least whole number not below `2^64 / (e^epsilon + others)`."""
    odds = _DECIMAL.exp(Decimal(min(epsilon, _LARGEST_EXPONENT)))
    # e^epsilon is irrational, so that the quotient is never whole, and 60 digits tell on which side of one it
    # is.
    return int(_DECIMAL.divide(Decimal(_WORDS), _DECIMAL.add(odds, Decimal(others)))) + 1


def _require(epsilon: float, categories: int) -> tuple[float, int]:
    real = isinstance(epsilon, float | int) and not isinstance(epsilon, bool)
    if not real or not 0 < epsilon < math.inf:
        raise PlanError(
            "epsilon",
            given=repr(epsilon),
            expected="a finite number above 0",
            do="Give what one report may spend, such as 1.0.",
        )
    whole = isinstance(categories, int) and not isinstance(categories, bool)
    if not whole or not 2 <= categories <= MAXIMUM_CATEGORIES:
        raise PlanError(
            "categories",
            given=repr(categories),
            expected=f"a whole number from 2 to {MAXIMUM_CATEGORIES}",
            do="Give how many answers there are.",
        )
    return float(epsilon), categories


def _require_signal(epsilon: float, gap: int) -> None:
    if gap <= 0:
        raise PlanError(
            "epsilon",
            given=repr(epsilon),
            expected="enough for a true answer to be likelier than a false one by 2^-64",
            do="Give more, or ask for fewer categories.",
        )


def _require_values(what: str, values: np.ndarray, categories: int) -> np.ndarray:
    """`values` as int64 `[n]`, each of them a category."""
    values = np.asarray(values)
    if values.dtype.kind not in "iu" or values.ndim != 1:
        given = f"{values.dtype} {list(values.shape)}"
    elif len(values) and not (values.min() >= 0 and values.max() < categories):
        # Not which: somebody's answer is in no error.
        given = "some that are not"
    else:
        return values.astype(np.int64)
    raise PlanError(
        what,
        given=given,
        expected=f"integers [n] from 0 to {categories - 1}",
        do="Number the categories from 0.",
    )
