"""Columns from tables of other libraries: Parquet files and Hugging Face data sets. The libraries are imported on use."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.core.extras import require
from fairyring.core.interrupts import interruptible
from fairyring.population._columns import refuse_unknown_name
from fairyring.population.parquet.storage import Files


def read_parquet(files: Files, client: str, columns: Sequence[str] | None) -> dict[str, Any]:
    """The client column and the data columns of Parquet files, as arrays."""
    require("pyarrow", extra="data", purpose="reading Parquet files")
    import pyarrow.parquet as pq

    def once() -> tuple[list[str], Any]:
        files.list()  # so that what is wrong with them is said in the same words as where they are read piece by piece
        data = pq.ParquetDataset(files.root, filesystem=files.system)
        names = _wanted(data.schema.names, client, columns)
        return names, data.read(columns=names)

    [(names, table)] = interruptible(lambda: files.trying(files.shown, once))
    return {name: from_arrow(name, table.column(name).combine_chunks()) for name in names}


def _wanted(known: Sequence[str], client: str, columns: Sequence[str] | None) -> list[str]:
    refuse_unknown_name("client column", client, known)
    if columns is None:
        return list(known)
    for name in columns:
        refuse_unknown_name("column", name, known)
    return [name for name in known if name in columns or name == client]


def from_arrow(name: str, array: Any) -> np.ndarray:
    """An Arrow array as a NumPy array of numbers or strings. Nested lists of equal length become further axes."""
    import pyarrow as pa

    if isinstance(array, pa.ChunkedArray):
        array = pa.concat_arrays(array.chunks) if array.num_chunks else pa.array([], array.type)
    if isinstance(array, pa.ExtensionArray):
        array = array.storage
    shape: list[int] = [len(array)]
    values_per_row = 1
    while True:
        if array.null_count:
            row = int(np.flatnonzero(np.asarray(array.is_null()))[0]) // values_per_row
            raise PopulationError(
                f"column {name!r}, row {row}",
                given="no value",
                expected="a value in every row",
                do="Drop these rows, or fill in missing values first.",
            )
        if not _is_list(array.type):
            break
        lengths = (
            np.asarray(array.value_lengths())
            if not _is_fixed(array.type)
            else np.array([array.type.list_size])
        )
        if len(lengths) and lengths.min() != lengths.max():
            raise PopulationError(
                f"column {name!r}",
                given=f"rows of {lengths.min()} to {lengths.max()} values",
                expected="the same number of values in every row",
                do="Pad or cut the rows to one length.",
            )
        width = int(lengths[0]) if len(lengths) else 0
        shape.append(width)
        values_per_row *= max(1, width)
        array = array.flatten()
    if isinstance(array.type, pa.DictionaryType):
        array = array.dictionary_decode()
    values = array.to_numpy(zero_copy_only=False)
    return values.reshape(shape) if len(shape) > 1 else values


def _is_fixed(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_fixed_size_list(kind)


def _is_list(kind: Any) -> bool:
    import pyarrow as pa

    return pa.types.is_list(kind) or pa.types.is_large_list(kind) or _is_fixed(kind)


def read_table(dataset: Any, client: str, columns: Sequence[str] | None) -> dict[str, Any]:
    """The client column and the data columns of a Hugging Face data set, or of an object with the same interface."""
    if hasattr(dataset, "iter") and hasattr(dataset, "with_format") and not hasattr(dataset, "__len__"):
        dataset = _streamed(dataset, client, columns)
    names = getattr(dataset, "column_names", None)
    if isinstance(names, Mapping) or (isinstance(dataset, Mapping) and _are_splits(dataset)):
        raise PopulationError(
            "dataset",
            given=f"the splits {', '.join(map(str, names or dataset))}",
            expected="one split",
            do="Choose one: dataset['train'].",
        )
    if names is None:
        if not isinstance(dataset, Mapping) and not hasattr(dataset, "to_dict"):
            raise PopulationError(
                "dataset",
                given=type(dataset).__name__,
                expected="column_names and access by name, to_dict(), or a mapping of columns",
                do="Convert it to arrays, and use Population.from_arrays.",
            )
        table = dataset if isinstance(dataset, Mapping) else dataset.to_dict()
        return {name: np.asarray(table[name]) for name in _wanted(list(table), client, columns)}
    wanted = _wanted(list(names), client, columns)
    formatted = getattr(dataset, "with_format", None)
    if formatted is None:
        return {name: np.asarray(dataset[name]) for name in wanted}
    # By way of Arrow: the library's NumPy format converts all integers to int64 and all floats to float32.
    table = formatted("arrow", columns=wanted)[:]
    return {name: _decoded(formatted, name, table.column(name)) for name in wanted}


def _streamed(dataset: Any, client: str, columns: Sequence[str] | None) -> Any:
    """All rows of an iterable data set, as a data set in memory. Only columns that are wanted are kept, where they are known."""
    import pyarrow as pa
    from datasets import Dataset
    from datasets.table import InMemoryTable

    if dataset.column_names is not None:
        dataset = dataset.select_columns(_wanted(list(dataset.column_names), client, columns))
    tables = list(dataset.with_format("arrow").iter(batch_size=1024))
    if not tables:
        raise PopulationError(
            "dataset",
            given="a stream without a row",
            expected="at least one",
            do="Check how it was filtered.",
        )
    return Dataset(InMemoryTable(pa.concat_tables(tables, promote_options="default")))


def _decoded(formatted: Any, name: str, column: Any) -> np.ndarray:
    """A column of a data set as an array. The library decodes what Arrow stores encoded, such as images."""
    import pyarrow as pa

    if pa.types.is_struct(column.type):
        return np.asarray(formatted("numpy", columns=[name])[:][name])
    return from_arrow(name, column.combine_chunks())


def _are_splits(dataset: Mapping[str, Any]) -> bool:
    return bool(dataset) and all(hasattr(split, "column_names") for split in dataset.values())
