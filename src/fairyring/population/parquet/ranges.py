"""Columns of some row groups, by one request for each run of bytes that they take up in a file."""

import io
from collections.abc import Iterator, Sequence
from typing import Any

_GAP = 64 << 10  # bytes that are rather read than left out by another request


def read_columns(handle: Any, footer: Any, groups: Sequence[int], columns: Sequence[str]) -> Any:
    """A table of some columns of row groups.

    Args:
        handle: the open file.
        footer: its metadata.
        groups: their numbers, ascending.
        columns: by name.
    """
    import pyarrow.parquet as pq

    pieces = []
    for begin, end in _runs(footer, groups, columns):
        content = handle.read_at(end - begin, begin)
        if len(content) != end - begin:
            raise OSError(f"The file ends at byte {begin + len(content):,}, within a row group")
        pieces.append((begin, content))
    part = _Part(pieces, handle.size())
    parquet = pq.ParquetFile(part, metadata=footer, page_checksum_verification=True)
    return parquet.read_row_groups(list(groups), columns=list(columns), use_threads=False)


def _runs(footer: Any, groups: Sequence[int], columns: Sequence[str]) -> Iterator[tuple[int, int]]:
    """The bytes of the columns, where what is near each other is one run: begin and end."""
    chunks = []
    for group in map(footer.row_group, groups):
        for leaf in map(group.column, range(group.num_columns)):
            if any(
                leaf.path_in_schema == name or leaf.path_in_schema.startswith(f"{name}.") for name in columns
            ):
                begin = min(o for o in (leaf.dictionary_page_offset, leaf.data_page_offset) if o)
                chunks.append((begin, begin + leaf.total_compressed_size))
    chunks.sort()
    begin, end = chunks[0]
    for first, last in chunks[1:]:
        if first > end + _GAP:
            yield begin, end
            begin = first
        end = max(end, last)
    yield begin, end


class _Part(io.RawIOBase):
    """A file of which only some pieces are there.

    Args:
        pieces: where each begins, and its bytes.
        size: of the whole file.
    """

    def __init__(self, pieces: list[tuple[int, bytes]], size: int) -> None:
        self._pieces, self._size, self._at = pieces, size, 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def tell(self) -> int:
        return self._at

    def seek(self, offset: int, whence: int = 0) -> int:
        self._at = offset + (0, self._at, self._size)[whence]
        return self._at

    def read(self, size: int = -1) -> bytes | memoryview:
        for begin, content in self._pieces:
            if begin <= self._at < begin + len(content):
                found = memoryview(content)[self._at - begin :][: size if size >= 0 else None]
                self._at += len(found)
                return found
        raise OSError(f"byte {self._at:,} was not read")
