"""A party whose process ends after any record of its log goes on from there: the same sum, or the same clean end."""

import random
from collections.abc import Callable

import msgspec
import pytest

from fairyring.core.errors import SessionAborted
from tests.secagg.driving import EVENTS, Play, StoppingLog, small_terms, vectors_of

POINTS, PARTS, QUICK = 10_000, 20, 300
TOGETHER = 3  # crash points in one run, far from each other


class Scenario:
    """A session that is the same whenever it is played, but for where processes end."""

    def __init__(self, seed: int) -> None:
        dice = random.Random(seed)
        self.seed, self.devices = seed, dice.choice((3, 3, 4))
        self.terms = small_terms(
            self.devices,
            bits=dice.choice((16, 24, 32, 33, 64)),
            threat=dice.choice(("semi_honest", "semi_malicious")),
            dropout=0.25 if self.devices == 4 else 0.0,
        )
        count = dice.choice((0, 0, 1, 2))
        gone = dice.sample(range(self.devices), count)
        self.vanish = {i: dice.choice(EVENTS) for i in gone}

    def play(self, after: Callable[[], bool]) -> tuple[str, Play]:
        """How the session ends, whose processes end after the appends for which `after()` is true."""
        vectors = vectors_of(self.devices, self.terms, self.seed)
        play = Play(
            self.terms, vectors, self.vanish, seed=self.seed, log=lambda party: StoppingLog([], after)
        )
        try:
            play.run()
        except SessionAborted:
            assert play.server.result is None
            assert play.server.phase == "aborted"
            return "aborted", play
        assert play.server.result is not None
        assert play.server.result.sum.tolist() == play.plain()
        transcript = msgspec.msgpack.encode(msgspec.to_builtins(play.server.result.transcript))
        return transcript.hex(), play


def at(points: range) -> Callable[[], bool]:
    """True at the appends with these numbers, counted over all parties."""
    count = -1

    def after() -> bool:
        nonlocal count
        count += 1
        return count in points

    return after


def crashed(first_seed: int, points: int) -> int:
    """Crash points gone through, at least `points`: every append of one session after the other, a few in each run."""
    done, seed = 0, first_seed
    while done < points:
        scenario = Scenario(seed)
        end, calm = scenario.play(lambda: False)
        appends = sum(len(log) for log in calm.logs.values())
        apart = -(-appends // TOGETHER)
        for point in range(apart):
            ends = range(point, appends, apart)
            again, play = scenario.play(at(ends))
            assert play.restarts == len(ends), (seed, point)
            assert again == end, (seed, point)
            # Whatever any party ever said is, byte for byte, what it says where nothing ends.
            assert play.sent == calm.sent, (seed, point)
            assert play.delivered == calm.delivered, (seed, point)
            assert {p: list(log) for p, log in play.logs.items()} == {
                p: list(log) for p, log in calm.logs.items()
            }, (seed, point)
            done += play.restarts
        seed += 1
    return done


def test_a_few_hundred_crash_points_change_nothing() -> None:
    assert crashed(0, QUICK) >= QUICK


@pytest.mark.slow
@pytest.mark.campaign(PARTS)
def test_ten_thousand_crash_points_change_nothing(part: int) -> None:
    assert POINTS >= 10_000
    assert crashed(1_000 * (part + 1), POINTS // PARTS) >= POINTS // PARTS


@pytest.mark.parametrize("seed", range(30))
def test_processes_that_end_after_every_record_change_nothing(seed: int) -> None:
    scenario = Scenario(seed)
    end, calm = scenario.play(lambda: False)
    again, play = scenario.play(lambda: True)
    appends = sum(len(log) for log in calm.logs.values())
    assert play.restarts == appends
    assert (again, play.sent, play.delivered) == (end, calm.sent, calm.delivered)


@pytest.mark.parametrize("seed", range(30))
def test_processes_that_end_now_and_then_change_nothing(seed: int) -> None:
    scenario, dice = Scenario(seed), random.Random(seed)
    end, calm = scenario.play(lambda: False)
    again, play = scenario.play(lambda: dice.random() < 0.3)
    assert (again, play.sent, play.delivered) == (end, calm.sent, calm.delivered)


def test_a_device_without_a_log_would_begin_anew() -> None:
    # What the log is for: without it the same device makes other keys, and the runs above would see it.
    terms = small_terms(3)
    plays = [Play(terms, vectors_of(3, terms), seed=seed) for seed in (1, 2)]
    assert plays[0].devices[0].start() != plays[1].devices[0].start()
