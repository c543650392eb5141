"""How much room columns of a population take."""

import math

from fairyring.population import Population


def bytes_of(population: Population, columns: tuple[str, ...]) -> int:
    """Bytes of these columns over all examples."""
    row = sum(math.prod(population.shape(name)) * population.dtype(name).itemsize for name in columns)
    return row * int(population.examples)
