"""A population as Parquet files that are quickly read client by client."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from fairyring.core.errors import PopulationError
from fairyring.core.extras import require
from fairyring.population._columns import check_finite, whole_number
from fairyring.population._mapped import client_blocks
from fairyring.population._store import appearing

if TYPE_CHECKING:
    from fairyring.population.population import Population


def write_parquet(
    population: "Population", folder: Path, client: str, *, row_group_bytes: int, file_bytes: int
) -> Path:
    """See `Population.to_parquet`."""
    require("pyarrow", extra="data", purpose="writing Parquet files")
    if client in population.names:
        raise PopulationError(
            "client column",
            given=f"{client!r}, which is a data column",
            expected="another name for the column of ids",
            do="Give client= a name that no column has.",
        )
    row_bytes = population.row_bytes()
    of_group = max(1, whole_number("row_group_bytes", row_group_bytes, 1) // row_bytes)
    of_file = max(1, whole_number("file_bytes", file_bytes, 1) // row_bytes)
    with appearing(population, folder) as partial:
        partial.mkdir(parents=True)
        _write(population, partial, client, of_group, of_file)
    return folder


def _write(population: "Population", folder: Path, client: str, of_group: int, of_file: int) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    ids, sizes = np.asarray(population.ids), np.asarray(population.sizes)
    writer, files, rows_there = None, 0, 0
    try:
        for clients in client_blocks(sizes, of_group):
            rows, offsets = population.gather(clients)
            count = int(offsets[-1])
            if not count:
                continue
            check_finite(rows)
            columns = {client: pa.array(np.repeat(ids[clients], sizes[clients]))}
            table = pa.table(columns | {name: _as_arrow(column) for name, column in rows.items()})
            if writer is not None and rows_there + count > of_file:
                writer.close()
                writer = None
            if writer is None:
                path = folder / f"{files:05}.parquet"
                # Ids repeat; of what is learned from, few numbers do.
                options: dict[str, Any] = {"compression": "zstd", "use_dictionary": [client]}
                writer = pq.ParquetWriter(path, table.schema, write_page_checksum=True, **options)
                files, rows_there = files + 1, 0
            # A client larger than a row group has several.
            writer.write_table(table, row_group_size=of_group if len(clients) == 1 else count)
            rows_there += count
    finally:
        if writer is not None:
            writer.close()


def _as_arrow(column: np.ndarray) -> Any:
    """Rows of a column as an array of Arrow, with a list of fixed length for each further axis."""
    import pyarrow as pa

    array = pa.array(np.ascontiguousarray(column).reshape(-1))
    for width in reversed(column.shape[1:]):
        array = pa.FixedSizeListArray.from_arrays(array, width)
    return array
