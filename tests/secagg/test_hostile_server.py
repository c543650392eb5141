"""A hostile server against honest devices, ten thousand times over."""

from collections import Counter

import pytest

from fairyring.secagg import Session
from fairyring.secagg._suite import bitmap
from fairyring.secagg.messages import Advertise, Survivors, decode_kept, encode
from tests.secagg.driving import small_terms
from tests.secagg.hostile import Run, View
from tests.secagg.watching import Broken, Watched, check_together

RUNS, PARTS, QUICK = 10_200, 24, 240


def played(first: int, count: int) -> Counter[str]:
    """What happened in `count` runs; raises `Broken` with the seed of a run in which an invariant did not hold."""
    seen: Counter[str] = Counter()
    for seed in range(first, first + count):
        run = Run(seed)
        try:
            run.play()
        except Exception as error:
            raise Broken(f"run {seed}: {type(error).__name__}: {error}") from error
        seen += run.seen
        seen["runs"] += 1
        seen["runs with an unmasking"] += bool(run.seen["unmask"])
        seen["runs checked together"] += run.together
    return seen


def reached(seen: Counter[str], runs: int) -> None:
    """That the runs were not all over before they began."""
    assert seen["runs"] == runs
    assert seen["runs with an unmasking"] > runs / 5
    assert seen["runs checked together"] > runs / 6
    for what in ("shares", "masked_input", "consistency", "MessageRefused", "SessionAborted"):
        assert seen[what] > runs / 4, (what, seen)
    for what in ("restart", "replay", "nonsense", "contribute again", "two rosters"):
        assert seen[what] > runs / 20, (what, seen)
    assert seen["two models"] > runs / 50
    assert seen["false advert"] > runs / 100
    assert seen["complaint"] > runs / 20
    assert seen["disclosure"] > runs / 20
    for phase in ("roster", "mailbox", "accusation", "settlement", "survivors", "signatures"):
        assert seen[f"changed {phase}"] > runs / 100, (phase, seen)


def test_no_invariant_breaks_in_a_few_hundred_runs() -> None:
    reached(played(1_000_000, QUICK), QUICK)


@pytest.mark.slow
@pytest.mark.campaign(PARTS)
def test_no_invariant_breaks_in_ten_thousand_runs(part: int) -> None:
    assert RUNS >= 10_000
    assert RUNS % PARTS == 0
    reached(played(part * RUNS // PARTS, RUNS // PARTS), RUNS // PARTS)


def split(threat: str) -> list[Watched]:
    """One corrupt device and four honest ones, told two stories: in each, a pair hears that the other's last vanished."""
    terms = small_terms(5, length=2, threat=threat, adversarial=0.2)
    session = Session(terms, 0, bytes(32))
    run = Run(0)
    run.session, run.threat, run.heat = session, threat, 0.0
    run.all = [Watched(number, session, 0) for number in range(5)]
    run.corrupt, run.honest = run.all[:1], run.all[1:]
    view = View(session, [decode_kept(one.start(), Advertise) for one in run.all])
    run.views, run.view = [view], {one.number: view for one in run.all}
    for one in run.all:
        one.receive(encode(run._roster(one, view)), run.seen)
    for one in run.all:
        one.receive(encode(run._mailbox(one, view)), run.seen)
        run._contribute(one)
    everyone = set(range(5))
    for pair, lost in ((run.honest[:2], run.honest[3]), (run.honest[2:], run.honest[0])):
        story = bitmap(everyone - {view.index[lost.identity.public]}, 5)
        for one in pair:
            one.receive(encode(Survivors(view.root, story)), run.seen)
    for one in run.honest:
        one.receive(encode(run._signatures(one, view)), run.seen)
    return run.honest


def test_two_stories_split_a_session_that_trusts_its_server_and_the_check_sees_it() -> None:
    # What semi-honest terms do not promise: here the watch must find both secrets of a device.
    honest = split("semi_honest")
    assert all(one.unmasked for one in honest)
    with pytest.raises(Broken):
        check_together(honest, lambda root: 1)


def test_two_stories_get_nothing_from_devices_that_do_not_trust_their_server() -> None:
    honest = split("semi_malicious")
    assert not any(one.unmasked for one in honest)
    assert all(len(one.signed) == 1 for one in honest)


def test_the_watch_sees_a_device_that_answers_twice() -> None:
    session = Session(small_terms(3), 0, bytes(32))
    one = Watched(1, session, 0)
    one.start()
    one.seed, one.log = 1, type(one.log)()
    one.device = one._made()
    with pytest.raises(Broken, match="two different advertise"):
        one.start()
