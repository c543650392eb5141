"""Which columns of a population a task reads, and how much room they take."""

import math

from fairyring.population import Population
from fairyring.task import Task


def columns_of(task: Task, population: Population) -> tuple[str, ...]:
    """The columns a task reads from a population: its own, and the sample weights if there are any."""
    own = tuple(task.columns)
    return (*own, "weight") if "weight" in population.columns and "weight" not in own else own


def bytes_of(population: Population, columns: tuple[str, ...]) -> int:
    """Bytes of these columns over all examples."""
    row = sum(math.prod(population.shape(name)) * population.dtype(name).itemsize for name in columns)
    return row * int(population.examples)
