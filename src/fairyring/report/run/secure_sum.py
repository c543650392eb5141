"""The section on the secure sum: one client's update, and what the server saw of it."""

from collections import Counter

import numpy as np

from fairyring.report.kit import Figure, Section, absent, escaped, mapping, pair, paragraph, units
from fairyring.report.run import figures
from fairyring.report.run.reported_run import ReportedRun
from fairyring.report.run.uniformity import Uniformity, uniformity

_SHOWN = 1 << 14  # numbers of a vector that are drawn
_TITLE = "What the server saw"


def secure_sum(folder: ReportedRun) -> Section | None:
    """The section; None for a plan without a secure sum."""
    promise = mapping(folder.plan.get("secure_sum"))
    if not promise:
        return None
    if folder.run.get("secure_sum") != "protocol":
        body = absent(
            "This plan ends in a secure sum, which this run computed in its ideal form: the numbers are those of the "
            "masked protocol, the protection is not. With secure_sum='protocol' every message is made and checked."
        )
        return Section("secure-sum", _TITLE, body)
    body = paragraph(str(promise.get("says", ""))) + _sessions(folder)
    clear, received = (folder.exhibit.get(name) for name in ("clear", "received"))
    bits = promise.get("modulus_bits")
    if received is None or not isinstance(bits, int):
        return Section("secure-sum", _TITLE, body + absent("No client's input was kept to be shown."))
    parts = [*(_clear(clear, bits) if clear is not None else []), *_received(received, bits)]
    rows = [parts[::2], parts[1::2]] if clear is not None else [parts]  # what was sent over how it is spread
    return Section("secure-sum", _TITLE, body + "".join(map(pair, rows)))


def _sessions(folder: ReportedRun) -> str:
    summed = [one.clients for one in folder.rounds if one.aborted is None]
    aborted = [one.aborted for one in folder.rounds if one.aborted is not None]
    if not folder.rounds:
        return ""
    words = f"{units.count(len(summed), 'sum')} {'was' if len(summed) == 1 else 'were'} released"
    if summed:
        words += f", the smallest of {units.count(min(summed), 'client')}"
    checks = (
        " <code>fairyring verify</code> checks the transcript of each." if "history" in folder.run else ""
    )
    text = f"<p>{escaped(words)}.{checks}</p>"
    if aborted:
        reasons = Counter(f"{one.stage}: {one.reason}" for one in aborted)
        counted = [(units.count(n, "round"), why) for why, n in reasons.items()]
        listed = "".join(f"<li>{escaped(f'{rounds}, {why}')}</li>" for rounds, why in counted)
        text += f"<p>Ended without a sum, and changed nothing:</p><ul>{listed}</ul>"
    return text


def _clear(clear: np.ndarray, bits: int) -> list[Figure]:
    """One client's vector as a picture, and how its numbers are spread."""
    half = 1 << (bits - 1)
    signed = (clear.astype(np.int64) + half) % (2 * half) - half
    largest = max(1.0, float(np.quantile(np.abs(signed[:_SHOWN]), 0.99)))
    return [
        Figure(
            figures.picture("clear", "One client's update, in the clear", signed[:_SHOWN], -largest, largest),
            f"The quantised update of one client of this simulation: {units.count(len(signed))} numbers. "
            "Its structure is what attacks feed on.",
            "One client's update in the clear",
        ),
        Figure(
            figures.density("clear-spread", "Spread in the clear", clear, 0, 2 * half),
            f"Are all byte values equally frequent? {_verdict(uniformity(clear, bits))}",
            "Spread of the clear numbers",
        ),
    ]


def _received(received: np.ndarray, bits: int) -> list[Figure]:
    """What the server received from it, in the same form."""
    modulus = 1 << bits
    return [
        Figure(
            figures.picture(
                "received", "What the server received from one client", received[:_SHOWN], 0, modulus
            ),
            "A client's numbers under their masks, from the message the server got.",
            "What the server received",
        ),
        Figure(
            figures.density("received-spread", "Spread as received", received, 0, modulus),
            f"Are all byte values of what was received equally frequent? {_verdict(uniformity(received, bits))}",
            "Spread of the received numbers",
        ),
    ]


def _verdict(test: Uniformity) -> str:
    chance = "below 1 in a million" if test.p < 1e-6 else f"{test.p:.2g}"
    verdict = (
        "they are told from random bytes at once."
        if test.p < 1e-6
        else "they are not told from random bytes."
        if test.p > 0.001
        else "they would seldom be so by chance."
    )
    return f"Chi-square {units.number(test.statistic)} over 256 values of {units.count(test.bytes, 'byte')}, p {chance}: {verdict}"
