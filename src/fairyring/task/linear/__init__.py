"""Linear estimators of scikit-learn as tasks: what one minimises, and a fitted one of what was trained.

    estimator.py    an estimator, or a pipeline that ends in one -> what it learns, as plain values; what is refused
    losses.py       its losses, of a score and its target
    fitting.py      parameters -> a fitted estimator

None of it imports scikit-learn: whoever has an estimator has done so.
"""

from fairyring.task.linear.estimator import Linear, read_estimator
from fairyring.task.linear.fitting import fit

__all__ = ["Linear", "fit", "read_estimator"]
