"""Shakespeare by speaker: next-character sequences."""

import re
from pathlib import Path

import numpy as np

from fairyring.population._columns import proper_fraction, whole_number
from fairyring.population.population import Population
from fairyring.population.readers._prepare import held_out, one_of
from fairyring.population.readers.dataset import Dataset, File, Splits

VOCABULARY = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""The 80 characters of the LEAF benchmark (Caldas et al. 2018). The token of a character is its position here."""

_HEADING = re.compile(r"([^\n:]+):\n?(.*)", re.DOTALL)


def read(
    paths: list[Path], *, split: str = "time", length: int = 80, test_fraction: float = 0.2, seed: int = 0
) -> Splits:
    one_of("split", split, ("time", "speakers"))
    length, test_fraction = whole_number("length", length, 1), proper_fraction("test_fraction", test_fraction)
    speeches = speeches_by_speaker(paths[0].read_text(encoding="ascii"))
    speakers = np.array(list(speeches))
    tokens = [encode("\n".join(own) + "\n") for own in speeches.values()]
    if split == "time":
        cuts = [round(len(text) * (1 - test_fraction)) for text in tokens]
        return Splits(
            _population(speakers, [text[:cut] for text, cut in zip(tokens, cuts, strict=True)], length),
            _population(speakers, [text[cut:] for text, cut in zip(tokens, cuts, strict=True)], length),
        )
    population = _population(speakers, tokens, length)
    # Speakers with and without examples are held out separately, so the fraction holds for those with examples.
    test = held_out(population.sizes > 0, test_fraction, seed)
    return Splits(population.select(~test), population.select(test))


DATASET = Dataset(
    name="shakespeare",
    title="Tiny Shakespeare, by speaker",
    source="A. Karpathy, char-rnn; the plays are Shakespeare's",
    page="https://github.com/karpathy/char-rnn",
    licence="public domain",
    citation="W. Shakespeare. The form of the task: S. Caldas et al. LEAF: A Benchmark for Federated "
    "Settings. arXiv:1812.01097, 2018.",
    clients="a speaker (the heading NAME: of a speech); speakers without a complete sequence have no examples",
    shapes={
        "x": "int32 [80], characters as their position in the vocabulary of 80",
        "y": "int32 [80], the character after each one in x",
    },
    how="The speeches of a speaker are joined by newlines and cut into sequences of `length` characters that do "
    "not overlap. The rest at the end is not used. '$', which occurs once, is not in the vocabulary and is read "
    "as a space. With split='time' the last test_fraction of each speaker's text is held out; with "
    "split='speakers' that fraction of the speakers is.",
    folder="shakespeare",
    files=(
        File(
            "tinyshakespeare.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
    ),
    read=read,
)


def speeches_by_speaker(text: str) -> dict[str, list[str]]:
    """Speaker -> speeches, in the order of the text. A speech is a block between empty lines, with the heading `NAME:`."""
    speeches: dict[str, list[str]] = {}
    for block in re.split(r"\n\n+", text.strip("\n")):
        heading = _HEADING.match(block)
        if heading:
            speeches.setdefault(heading[1], []).append(heading[2])
    return speeches


def encode(text: str) -> np.ndarray:
    """Characters as their positions in `VOCABULARY`, int32 `[len(text)]`; other characters as a space."""
    table = np.full(128, VOCABULARY.index(" "), np.int32)
    table[np.frombuffer(VOCABULARY.encode(), np.uint8)] = np.arange(len(VOCABULARY))
    return table[np.frombuffer(text.encode("ascii"), np.uint8)]


def _population(speakers: np.ndarray, texts: list[np.ndarray], length: int) -> Population:
    """Sequences of `length` characters, each with the characters that follow; this takes `length` + 1 characters."""
    sizes = np.array([max(0, len(text) - 1) // length for text in texts])
    x = [text[: n * length].reshape(n, length) for text, n in zip(texts, sizes, strict=True)]
    y = [text[1 : n * length + 1].reshape(n, length) for text, n in zip(texts, sizes, strict=True)]
    columns = {"x": np.concatenate(x), "y": np.concatenate(y)}
    return Population(columns, np.cumsum(sizes) - sizes, sizes, speakers)
