"""Names of files: any text gives one that every system takes, and no two texts give the same."""

from hypothesis import given
from hypothesis import strategies as st

from fairyring.core.files import own_name, plain_name

PLAIN = "abcXYZ0189._=,+-()"


@given(st.text(max_size=300), st.text(max_size=300))
def test_two_texts_have_two_names(one: str, other: str) -> None:
    assert (own_name(one) == own_name(other)) == (one == other)
    for text in (one, other):
        assert len(own_name(text)) <= 109
        assert not {*plain_name(text)} & set('/\\:*?"<>|\0\n ')


@given(st.text(PLAIN, min_size=1, max_size=100))
def test_a_plain_text_is_its_own_name(text: str) -> None:
    assert own_name(text) == plain_name(text) == text
