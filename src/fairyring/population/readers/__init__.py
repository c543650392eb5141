"""Readers of published data sets, one file per data set, and the catalogue of them."""

from fairyring.population.readers.catalogue import describe, fetch, find, load, names
from fairyring.population.readers.dataset import Dataset, File, Splits

__all__ = ["Dataset", "File", "Splits", "describe", "fetch", "find", "load", "names"]
