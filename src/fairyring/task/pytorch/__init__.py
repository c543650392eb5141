"""PyTorch modules as JAX functions: `torch.export` gives a module's graph, and a table of operators what each node computes.

    exporting.py    a module and the shape of its input -> a graph in which every operator is in the table
    operators/      the table, one file for each kind
    program.py      a graph -> a function of parameters, input and key
    weights.py      parameters by PyTorch's names, and a state dict of them

Only this room's user imports it, once a module is there: it imports torch.
"""

from fairyring.task.pytorch.exporting import export
from fairyring.task.pytorch.program import Program
from fairyring.task.pytorch.weights import Weights

__all__ = ["Program", "Weights", "export"]
