"""Texts of clients as rows of tokens: each client's texts are one stream, cut into sequences that do not overlap."""

import warnings
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import numpy as np

from fairyring.core.errors import PopulationError, PopulationWarning
from fairyring.population._columns import as_ids, whole_number
from fairyring.population._grouping import owners

Tokenizer = Callable[[str], Iterable[int]]
_TOKENS = np.iinfo(np.int32).max


def read_text(
    texts: Any,
    client: Any,
    tokenize: Tokenizer,
    *,
    length: int,
    end: int | None,
    padding: int | None,
    clients: Any,
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """See `Population.from_text`.

    Returns:
        Columns `x` and `y`, the number of rows of each client, and the ids of the clients.
    """
    length = whole_number("length", length, 1)
    for name, token in (("end", end), ("padding", padding)):
        if token is not None:
            whole_number(name, token, 0)
    by_client, ids = _by_client(texts, client, clients)
    streams = [
        _stream(own, one, tokenize, end, padding) for own, one in zip(by_client, ids.tolist(), strict=True)
    ]
    rows = [_rows(stream, length, padding) for stream in streams]
    sizes = np.array([len(x) for x, _ in rows], np.int64)
    if not sizes.any():
        raise PopulationError(
            "length",
            given=f"{length}, and no client with {length + 1} tokens",
            expected="a client whose texts fill a row, and the token that follows it",
            do="Give a smaller length, or padding=, a token that fills short rows.",
        )
    short = sum(len(stream) > 0 and len(x) == 0 for stream, (x, _) in zip(streams, rows, strict=True))
    if short:
        warnings.warn(
            f"{short:,} of {len(sizes):,} clients have fewer than {length + 1} tokens and so no row: they will not take part. "
            "A smaller length keeps them, or padding=, a token that fills short rows.",
            PopulationWarning,
            stacklevel=3,
        )
    x, y = (np.concatenate([one[place] for one in rows]) for place in (0, 1))
    return {"x": x, "y": y}, sizes, ids


def _by_client(texts: Any, client: Any, clients: Any) -> tuple[list[list[Any]], np.ndarray]:
    """The texts of each client, in order, and the ids."""
    if isinstance(texts, Mapping):
        if client is not None or clients is not None:
            raise PopulationError(
                "client",
                given="clients beside a mapping from clients to texts",
                expected="one of the two",
                do="Leave client= and clients= out.",
            )
        return [[own] if isinstance(own, str) else list(own) for own in texts.values()], as_ids(list(texts))
    every = [texts] if isinstance(texts, str) else list(texts)
    if client is None or isinstance(client, str):
        raise PopulationError(
            "client",
            given=repr(client),
            expected="the client of each text, or a mapping from clients to texts",
            do="Give both columns: from_text(frame['text'], client=frame['user'], ...).",
        )
    ids, owner = owners(client, len(every), clients)
    own: list[list[Any]] = [[] for _ in ids]
    for text, place in zip(every, owner.tolist(), strict=True):
        own[place].append(text)
    return own, ids


def _stream(
    texts: list[Any], client: Any, tokenize: Tokenizer, end: int | None, padding: int | None
) -> np.ndarray:
    """The tokens of one client's texts, one after another, int32 `[tokens]`."""
    parts = []
    for place, text in enumerate(texts):
        if not isinstance(text, str):
            raise PopulationError(
                f"text {place} of client {client!r}",
                given="no text" if text is None or text != text else type(text).__name__,
                expected="a string",
                do="Drop the row, or put '' in its place.",
            )
        parts.append(_tokens(tokenize(text), f"tokens of text {place} of client {client!r}", padding))
        if end is not None:
            parts.append(np.array([end], np.int32))
    return np.concatenate(parts) if parts else np.zeros(0, np.int32)


def _tokens(given: Any, what: str, padding: int | None) -> np.ndarray:
    if hasattr(given, "ids") or isinstance(given, Mapping):
        field = ".ids" if hasattr(given, "ids") else "['input_ids']"
        raise PopulationError(
            what,
            given=f"a {type(given).__name__}",
            expected="whole numbers, one for each token",
            do=f"Give a function: tokenize=lambda text: tokenizer(text){field}, or .encode(text){field}.",
        )
    array = np.asarray(given if isinstance(given, np.ndarray) else list(given))
    array = array.astype(np.int32) if array.shape == (0,) else array
    if array.ndim != 1 or array.dtype.kind not in "iu" or np.any((array < 0) | (array > _TOKENS)):
        raise PopulationError(
            what,
            given=f"an array {array.dtype} {array.shape}",
            expected="whole numbers from 0 on, one for each token",
            do="Have the tokeniser return numbers, with one of them for tokens that it does not know.",
        )
    if padding is not None and np.any(array == padding):
        raise PopulationError(
            what,
            given=f"the token {padding}, which is the padding",
            expected="a padding that no text has: targets equal to it are ignored",
            do="Give padding= a number of its own, such as the size of the vocabulary.",
        )
    return array.astype(np.int32)


def _rows(tokens: np.ndarray, length: int, padding: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Inputs and targets, int32 `[rows, length]` each; a row takes `length + 1` tokens, and the last is the next row's first."""
    rows = max(0, len(tokens) - 1) // length
    if padding is not None and len(tokens) > 1 and (len(tokens) - 1) % length:
        rows += 1
        tokens = np.concatenate([tokens, np.full(rows * length + 1 - len(tokens), padding, np.int32)])
    used = rows * length
    return tokens[:used].reshape(rows, length), tokens[1 : used + 1].reshape(rows, length)
