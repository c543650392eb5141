"""The garbage collector rests as long as anybody wants it to, and no longer."""

import gc

import pytest

from fairyring.core.collecting import collector_at_rest


def test_it_rests_until_the_last_has_ended() -> None:
    assert gc.isenabled()
    one, other = collector_at_rest(), collector_at_rest()
    one.__enter__()
    other.__enter__()
    assert not gc.isenabled()
    one.__exit__(None, None, None)
    assert not gc.isenabled()
    other.__exit__(None, None, None)
    assert gc.isenabled()


def test_it_collects_again_after_an_error() -> None:
    with pytest.raises(ZeroDivisionError), collector_at_rest():
        _ = 1 / 0
    assert gc.isenabled()


def test_a_collector_that_is_off_stays_off() -> None:
    gc.disable()
    try:
        with collector_at_rest():
            pass
        assert not gc.isenabled()
    finally:
        gc.enable()
