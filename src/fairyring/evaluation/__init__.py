"""How well a model does on a population: over all examples, and client by client."""

from fairyring.evaluation.evaluation import Evaluation, Evaluator
from fairyring.evaluation.summed import SummedEvaluation

__all__ = ["Evaluation", "Evaluator", "SummedEvaluation"]
