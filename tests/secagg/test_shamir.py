"""Shamir's sharing: a threshold of shares is the secret, one fewer is nothing."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fairyring.secagg._decoding import decode
from fairyring.secagg.shamir import COEFFICIENT_BYTES, PRIME, SHARE_BYTES, reconstruct, share
from tests.secagg.reference import interpolate

secrets = st.one_of(
    st.binary(min_size=32, max_size=32), st.sampled_from([bytes(32), b"\xff" * 32, b"\1" + bytes(31)])
)


def test_the_prime_is_one_and_any_32_bytes_are_below_it() -> None:
    assert PRIME == 2**256 + 297
    # Fermat's test to a few bases; a composite passes one with a chance of at most a quarter.
    assert all(pow(base, PRIME - 1, PRIME) == 1 for base in range(2, 60))
    assert PRIME.bit_length() < SHARE_BYTES * 8


@settings(max_examples=150, deadline=None)
@given(secrets, st.integers(1, 12), st.data())
def test_any_threshold_of_shares_gives_the_secret_back(
    secret: bytes, threshold: int, data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(1, 5000), min_size=threshold, max_size=20, unique=True))
    size = (threshold - 1) * COEFFICIENT_BYTES
    shares = share(secret, places, threshold, data.draw(st.binary(min_size=size, max_size=size)))
    chosen = data.draw(
        st.lists(
            st.sampled_from(list(zip(places, shares, strict=True))),
            min_size=threshold,
            unique_by=lambda one: one[0],
        )
    )
    assert all(len(one) == SHARE_BYTES for one in shares)
    assert reconstruct(dict(chosen)) == secret


@settings(max_examples=60, deadline=None)
@given(secrets, secrets, st.integers(2, 8), st.data())
def test_one_share_fewer_fits_every_secret(
    secret: bytes, other: bytes, threshold: int, data: st.DataObject
) -> None:
    size = (threshold - 1) * COEFFICIENT_BYTES
    randomness = data.draw(st.binary(min_size=size, max_size=size))
    places = list(range(1, threshold + 3))
    shares = dict(zip(places, share(secret, places, threshold, randomness), strict=True))
    known = dict(data.draw(st.permutations(sorted(shares.items())))[: threshold - 1])
    # Whatever the other secret, one polynomial of the same degree goes through it and the known shares.
    points = {0: int.from_bytes(other, "little")} | {x: int.from_bytes(y, "little") for x, y in known.items()}

    def through(at: int) -> int:
        total = 0
        for x, y in points.items():
            term = y
            for z in points:
                if z != x:
                    term = term * (at - z) * pow(x - z, -1, PRIME) % PRIME
            total += term
        return total % PRIME

    missing = next(place for place in places if place not in known)
    made_up = known | {missing: through(missing).to_bytes(SHARE_BYTES, "little")}
    assert len(made_up) == threshold
    assert reconstruct(made_up) == other


@settings(max_examples=60, deadline=None)
@given(st.dictionaries(st.integers(1, 400), st.integers(0, PRIME - 1), min_size=1, max_size=12))
def test_interpolation_agrees_with_the_plain_formula(values: dict[int, int]) -> None:
    shares = {place: value.to_bytes(SHARE_BYTES, "little") for place, value in values.items()}
    plain = interpolate(shares)
    expected = plain.to_bytes(32, "little") if plain < 1 << 256 else None
    assert reconstruct(shares) == expected


@pytest.mark.parametrize("value", [PRIME, PRIME + 1, (1 << 264) - 1])
def test_a_share_outside_the_field_gives_nothing(value: int) -> None:
    assert reconstruct({1: value.to_bytes(SHARE_BYTES, "little"), 2: bytes(SHARE_BYTES)}) is None


@settings(max_examples=150, deadline=None)
@given(secrets, st.integers(1, 12), st.data())
def test_wrong_shares_are_found_up_to_half_of_those_to_spare(
    secret: bytes, threshold: int, data: st.DataObject
) -> None:
    places = data.draw(st.lists(st.integers(1, 400), min_size=threshold, max_size=20, unique=True))
    size = (threshold - 1) * COEFFICIENT_BYTES
    randomness = data.draw(st.binary(min_size=size, max_size=size))
    shares = dict(zip(places, share(secret, places, threshold, randomness), strict=True))
    wrong = data.draw(
        st.lists(st.sampled_from(places), max_size=(len(places) - threshold) // 2, unique=True), label="wrong"
    )
    for place in wrong:
        by = data.draw(st.integers(1, PRIME - 1))
        changed = (int.from_bytes(shares[place], "little") + by) % PRIME
        outside = data.draw(st.booleans())
        shares[place] = b"\xff" * SHARE_BYTES if outside else changed.to_bytes(SHARE_BYTES, "little")
    result = decode(shares, threshold)
    assert result == (secret, set(wrong))


def test_twice_as_many_outside_the_field_are_found() -> None:
    places = range(1, 11)
    shares = dict(zip(places, share(b"s" * 32, places, 4, bytes(range(144))), strict=True))
    shares |= dict.fromkeys((1, 4, 5, 9), b"\xff" * SHARE_BYTES)
    shares[6] = shares[7]
    assert decode(shares, 4) == (b"s" * 32, {1, 4, 5, 6, 9})


def test_no_secret_is_found_where_none_is_near() -> None:
    places = range(1, 11)
    shares = dict(zip(places, share(b"s" * 32, places, 4, bytes(range(144))), strict=True))
    four = shares | {place: shares[place + 1] for place in (2, 4, 6, 8)}
    result = decode(four, 4)
    assert result is None or result.secret != b"s" * 32
    assert decode({place: shares[place] for place in (1, 2, 3)}, 4) is None
    # Of a number that is no secret's.
    maximum = (PRIME - 1).to_bytes(SHARE_BYTES, "little")
    assert decode(dict.fromkeys(places, maximum), 4) is None
    assert decode(dict.fromkeys(places, bytes(SHARE_BYTES)), 4) == (bytes(32), set())
