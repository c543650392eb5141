"""Federated data: who owns which examples, where they come from, how rows are dealt among clients.

Population     rows of columns, grouped by client, in memory or memory-mapped
partition      clients out of data that has none: uniform, dirichlet, shards, quantity_skew, by_column
load           published sets as populations; catalogue says what each is
"""

from fairyring.population import partition
from fairyring.population.partition import by_column, dirichlet, quantity_skew, shards, uniform
from fairyring.population.population import Population
from fairyring.population.readers import Dataset, File, Splits, describe, fetch, find, load, names

__all__ = [
    "Dataset",
    "File",
    "Population",
    "Splits",
    "by_column",
    "describe",
    "dirichlet",
    "fetch",
    "find",
    "load",
    "names",
    "partition",
    "quantity_skew",
    "shards",
    "uniform",
]
