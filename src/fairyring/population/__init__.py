"""Federated data: examples grouped by client.

Population           rows of columns, grouped by client, in memory or memory-mapped
S3Storage            which S3 the Parquet files of a population are on
partition            divides data without clients among clients: uniform, dirichlet, shards, quantity_skew, by_column
summary_statistics   means, deviations, ranges and missing counts over clients, to standardise by
load                 reads a published data set, or one of your own; describe(name) says what a published one is
"""

from fairyring.population import partition
from fairyring.population._mapped import client_blocks
from fairyring.population.parquet.storage import S3Storage
from fairyring.population.partition import by_column, dirichlet, quantity_skew, shards, uniform
from fairyring.population.population import Population
from fairyring.population.readers import Dataset, File, Splits, describe, fetch, find, load, names
from fairyring.population.summary import Standardize, SummaryStatistics, summary_statistics

__all__ = [
    "Dataset",
    "File",
    "Population",
    "S3Storage",
    "Splits",
    "Standardize",
    "SummaryStatistics",
    "by_column",
    "client_blocks",
    "describe",
    "dirichlet",
    "fetch",
    "find",
    "load",
    "names",
    "partition",
    "quantity_skew",
    "shards",
    "summary_statistics",
    "uniform",
]
