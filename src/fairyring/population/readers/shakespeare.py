"""Shakespeare by speaker: next-character sequences."""

import re
from pathlib import Path

import numpy as np

from fairyring.population._columns import share, whole_number
from fairyring.population.population import Population
from fairyring.population.readers._prepare import held_out, one_of
from fairyring.population.readers.dataset import Dataset, File, Splits

VOCABULARY = "\n !\"&'(),-.0123456789:;>?ABCDEFGHIJKLMNOPQRSTUVWXYZ[]abcdefghijklmnopqrstuvwxyz}"
"""The 80 characters of the LEAF benchmark (Caldas et al. 2018); a character's token is its place here."""

DATASET = Dataset(
    name="shakespeare",
    title="Tiny Shakespeare, by speaker",
    source="A. Karpathy, char-rnn; the plays are Shakespeare's",
    page="https://github.com/karpathy/char-rnn",
    licence="public domain",
    citation="W. Shakespeare. The form of the task: S. Caldas et al. LEAF: A Benchmark for Federated "
    "Settings. arXiv:1812.01097, 2018.",
    clients="a speaker (the heading NAME: of a speech); those without a whole sequence have no examples",
    shapes={
        "x": "int32 [80], characters as their place in the vocabulary of 80",
        "y": "int32 [80], the character that follows each of x",
    },
    how="The speeches of a speaker are joined by line ends and cut into sequences of length characters that "
    "do not overlap; what is left at the end is not used. '$', once in the text, is not in the vocabulary "
    "and read as a space. split='time': the last test_share of each speaker's text is the test; "
    "split='speakers': that share of the speakers is.",
    folder="shakespeare",
    files=(
        File(
            "tinyshakespeare.txt",
            "86c4e6aa9db7c042ec79f339dcb96d42b0075e16b8fc2e86bf0ca57e2dc565ed",
            "https://raw.githubusercontent.com/karpathy/char-rnn/master/data/tinyshakespeare/input.txt",
        ),
    ),
)

_HEADING = re.compile(r"([^\n:]+):\n?(.*)", re.DOTALL)


def read(
    paths: list[Path], *, split: str = "time", length: int = 80, test_share: float = 0.2, seed: int = 0
) -> Splits:
    one_of("split", split, ("time", "speakers"))
    length, test_share = whole_number("length", length, 1), share("test_share", test_share)
    lines = spoken(paths[0].read_text(encoding="ascii"))
    speakers = np.array(list(lines))
    tokens = [encode("\n".join(speeches) + "\n") for speeches in lines.values()]
    if split == "time":
        cuts = [round(len(text) * (1 - test_share)) for text in tokens]
        return Splits(
            _population(speakers, [text[:cut] for text, cut in zip(tokens, cuts, strict=True)], length),
            _population(speakers, [text[cut:] for text, cut in zip(tokens, cuts, strict=True)], length),
        )
    everybody = _population(speakers, tokens, length)
    # Held out among those with examples, so that the share is one of speakers who count.
    test = held_out(everybody.sizes > 0, test_share, seed)
    return Splits(everybody.select(~test), everybody.select(test))


def spoken(text: str) -> dict[str, list[str]]:
    """Speaker -> speeches, in the order of the text: blocks between empty lines, each headed `NAME:`."""
    lines: dict[str, list[str]] = {}
    for block in re.split(r"\n\n+", text.strip("\n")):
        heading = _HEADING.match(block)
        if heading:
            lines.setdefault(heading[1], []).append(heading[2])
    return lines


def encode(text: str) -> np.ndarray:
    """Characters as their places in `VOCABULARY`, int32 `[len(text)]`; others as a space."""
    table = np.full(128, VOCABULARY.index(" "), np.int32)
    table[np.frombuffer(VOCABULARY.encode(), np.uint8)] = np.arange(len(VOCABULARY))
    return table[np.frombuffer(text.encode("ascii"), np.uint8)]


def _population(speakers: np.ndarray, texts: list[np.ndarray], length: int) -> Population:
    """Sequences of `length` characters and the ones that follow: a sequence needs one character more."""
    sizes = np.array([max(0, len(text) - 1) // length for text in texts])
    x = [text[: n * length].reshape(n, length) for text, n in zip(texts, sizes, strict=True)]
    y = [text[1 : n * length + 1].reshape(n, length) for text, n in zip(texts, sizes, strict=True)]
    columns = {"x": np.concatenate(x), "y": np.concatenate(y)}
    return Population(columns, np.cumsum(sizes) - sizes, sizes, speakers)
