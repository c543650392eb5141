"""How well a model does on a population: over all examples, and client by client."""

from fairyring.evaluation.evaluation import Evaluation, Evaluator

__all__ = ["Evaluation", "Evaluator"]
