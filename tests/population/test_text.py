"""Texts of clients become sequences of tokens, each with the token that follows."""

import warnings

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.core.errors import PopulationError, PopulationWarning
from fairyring.population import Population

ENDS, PADS = 254, 255


def spell(text):
    return text.encode()


@settings(max_examples=40, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from("abc"), st.text("xyz", max_size=9)), min_size=1, max_size=12),
    st.integers(1, 5),
    st.booleans(),
    st.booleans(),
)
def test_sequences_are_the_texts_and_targets_what_follows(texts, length, ended, padded):
    end, padding = ENDS if ended else None, PADS if padded else None
    streams = {}
    for who, text in texts:
        streams[who] = streams.get(who, b"") + text.encode() + (bytes([ENDS]) if ended else b"")

    def made():
        who, said = zip(*texts, strict=True)
        with warnings.catch_warnings():  # there is a test of its own below
            warnings.simplefilter("ignore", PopulationWarning)
            return Population.from_text(said, who, tokenize=spell, length=length, end=end, padding=padding)

    if max(map(len, streams.values())) < (2 if padded else length + 1):
        with pytest.raises(PopulationError, match="no client with"):
            made()
        return
    population = made()
    assert population.ids.tolist() == sorted(streams)
    for i, who in enumerate(population.ids):
        x, y = (population.client(i)[name].ravel() for name in "xy")
        stream = np.frombuffer(streams[who], np.uint8)
        targets = y[y != PADS]
        np.testing.assert_array_equal(targets, stream[1 : len(targets) + 1])
        np.testing.assert_array_equal(x[: len(targets)], stream[: len(targets)])
        left_out = max(0, len(stream) - 1) - len(targets)
        assert left_out == 0 if padded else left_out < length
        assert population.sizes[i] * length == len(y)


def test_clients_whose_texts_are_too_short_are_counted():
    said = {"romeo": "but soft", "juliet": "oh", "nurse": []}
    with pytest.warns(PopulationWarning, match="1 of 3 clients have fewer than 4 tokens"):
        population = Population.from_text(said, tokenize=spell, length=3)
    assert population.sizes.tolist() == [2, 0, 0]


def test_texts_of_frames_and_mappings():
    said = {"romeo": ["but soft", "what light"], "juliet": "o romeo", "nurse": []}
    population = Population.from_text(said, tokenize=spell, length=3)
    assert population.ids.tolist() == ["romeo", "juliet", "nurse"]
    assert population.sizes.tolist() == [5, 2, 0]
    assert bytes(population.client(1)["x"].astype(np.uint8)) == b"o rome"
    frame = pytest.importorskip("pandas").DataFrame(
        {"who": ["romeo", "juliet", "romeo"], "text": ["but soft", "o romeo", "what light"]}
    )
    from_frame = Population.from_text(
        frame["text"], frame["who"], tokenize=spell, length=3, clients=["romeo", "juliet", "nurse"]
    )
    assert from_frame.fingerprint() == population.fingerprint()


class Encoding:
    ids = (1, 2, 3)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"tokenize": str.split}, "tokens of text 0 of client 'a': given an array <U"),
        ({"tokenize": lambda text: [0.5]}, "float64.*whole numbers"),
        ({"tokenize": lambda text: [-1]}, "from 0 on"),
        ({"tokenize": lambda text: Encoding()}, r"an? Encoding.*\.ids"),
        ({"tokenize": lambda text: {"input_ids": [1]}}, r"\['input_ids'\]"),
        ({"padding": ord("o")}, f"the token {ord('o')}, which is the padding"),
        ({"length": 0}, "length"),
        ({"end": -1}, "end"),
        ({"length": 99}, "99, and no client with 100 tokens.*padding="),
        ({"texts": {"a": [None]}}, "text 0 of client 'a': given no text"),
        ({"texts": {"a": [float("nan")]}}, "given no text"),
        ({"texts": {"a": [3]}}, "given int; expected a string"),
        ({"texts": ["hello"]}, r"from_text\(frame\['text'\]"),
        ({"client": ["a"]}, "Leave client= and clients= out"),
    ],
)
def test_what_makes_no_sequences_is_refused(options, says):
    given = {"texts": {"a": "hello you"}, "tokenize": spell, "length": 2} | options
    with pytest.raises(PopulationError, match=says):
        Population.from_text(given.pop("texts"), **given)
