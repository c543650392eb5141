"""Pictures of the masked protocol, drawn from its transition tables when the site is built.

A table that no longer has the form a picture shows, or a message nobody has described here, stops the build.
"""

from collections.abc import Mapping, Sequence
from enum import StrEnum
from html import escape
from typing import Any

from fairyring.secagg import device, server

# The theme's own colours, which change with light and dark.
STYLE = {
    ".ink": "stroke: var(--color-foreground-primary, #333); fill: none; stroke-width: 1.3",
    ".faint": "stroke: var(--color-foreground-muted, #888); fill: none; stroke-dasharray: 4 3",
    ".box": "stroke: var(--color-brand-primary, #1d6f77); fill: var(--color-background-secondary, #f8f9fb)",
    ".head": "fill: var(--color-foreground-primary, #333)",
    "text": "fill: var(--color-foreground-primary, #333); font: 14px var(--font-stack, sans-serif)",
    ".name": "font: 13px var(--font-stack--monospace, monospace)",
    ".small": "fill: var(--color-foreground-secondary, #666); font-size: 12.5px",
}

LOCAL = {"start": "begins", "vector": "has trained"}  # what a device is told by its own side

SAYS = {
    "advertise": "two fresh public keys, a commitment; signed",
    "roster": "hashes of all adverts; the neighbours' adverts",
    "shares": "for each neighbour, sealed: a share of two secrets",
    "mailbox": "what the neighbours sealed for this device",
    "masked_input": "vector + own mask ± a mask a neighbour; signed",
    "survivors": "whose inputs came: a bitmap",
    "consistency": "a signature of that bitmap",
    "signatures": "the neighbours' signatures of it",
    "unmask": "of each neighbour one share, of one kind",
}

SETTLES = {
    "advertising": "who takes part",
    "sharing": "who shared",
    "opening": "nobody complains",
    "masking": "whose inputs came",
    "confirming": "who signed",
    "unmasking": "masks come off; the sum",
}


class Drawing:
    """An SVG that a notebook shows in the page itself, where the theme's colours reach it."""

    def __init__(self, width: int, height: int, label: str, parts: Sequence[str]) -> None:
        # Styles inside an SVG apply to the whole page unless they are told which picture they are for.
        name = "drawing-" + "".join(c if c.isalnum() else "-" for c in label.lower())
        rules = "".join(f".{name} {selector} {{{transition}}}" for selector, transition in STYLE.items())
        head = (
            f'<marker id="{name}-head" viewBox="0 0 10 10" refX="9" refY="5" markerWidth="8" markerHeight="8" '
            'orient="auto-start-reverse"><path class="head" d="M0 1 L10 5 L0 9 z"/></marker>'
        )
        body = "".join(parts).replace("url(#head)", f"url(#{name}-head)")
        self._html = (
            f'<svg class="{name}" role="img" aria-label="{escape(label)}" viewBox="0 0 {width} {height}" '
            f'style="width:100%;max-width:{width}px;height:auto"><style>{rules}</style><defs>{head}</defs>{body}</svg>'
        )

    def _repr_html_(self) -> str:
        return self._html


def device_states() -> Drawing:
    """The phases of a device."""
    return _states("Phases of a device", device.Phase, device.TRANSITIONS)


def server_states() -> Drawing:
    """The phases of a server."""
    return _states("Phases of a server", server.Phase, server.TRANSITIONS)


def _states(label: str, phases: type[StrEnum], table: Mapping[tuple[Any, str], Any]) -> Drawing:
    """A ladder: each phase leads to itself or to the next, and all but the last two to the end without a sum. A phase
    that only complaints lead to stands beside it, between the two it lies between."""
    beside = {
        transition.detour: (phase, transition.target)
        for (phase, _), transition in table.items()
        if transition.detour
    }
    line = [phase for phase in phases if phase != "aborted" and phase not in beside]
    middle, width, high, gap, off = 330, 140, 34, 46, 500
    tops = {phase: 8 + row * (high + gap) for row, phase in enumerate(line)}
    for phase, (before, after) in beside.items():
        if line.index(after) != line.index(before) + 1:
            raise ValueError(f"{phase} does not lie between two phases: draw it anew")
        tops[phase] = (tops[before] + tops[after]) // 2
    bottom = tops[line[-1]]
    parts: list[str] = []
    for phase in line[:-1]:
        y = tops[phase] + high / 2
        parts.append(_line([(middle - width / 2, y), (95, y)], "faint", arrow=False))
    parts.append(_line([(95, tops[line[0]] + high / 2), (95, bottom)], "faint"))
    loops: dict[Any, list[str]] = {}
    for (phase, event), transition in table.items():
        top = tops[phase]
        words = f"{event} → {transition.answer}" if transition.answer else event
        if transition.target == phase:
            loops.setdefault(phase, []).append(words)
        elif phase in beside:
            y = top + high / 2
            edge = tops[transition.target] + high / 2 - 8
            parts.append(_line([(off + 30, top + high), (off + 30, edge), (middle + width / 2, edge)], "ink"))
            parts.append(_text(off + 38, y + high / 2 + 14, words, "name"))
        else:
            if line.index(transition.target) != line.index(phase) + 1:
                raise ValueError(f"{phase} -> {transition.target} is no step to the next phase: draw it anew")
            parts.append(_line([(middle, top + high), (middle, tops[transition.target])], "ink"))
            plain = event if transition.detour else words
            parts.append(_text(middle + 12, top + high + gap / 2 + 5, plain, "name"))
            if transition.detour:
                y = top + high / 2 - 8
                parts.append(
                    _line(
                        [(middle + width / 2, y), (off + 30, y), (off + 30, tops[transition.detour])], "ink"
                    )
                )
                parts.append(_text(off + 38, y + 20, f"{event} → {transition.answer}", "name"))
    for phase, words in loops.items():
        x = (off if phase in beside else middle) + width / 2
        y = tops[phase] + high / 2 + (6 if phase not in beside else 0)
        parts.append(
            f'<path class="ink" marker-end="url(#head)" d="M{x} {y - 7} C{x + 46} {y - 14} {x + 46} {y + 14} {x} {y + 7}"/>'
        )
        for row, line_of in enumerate(words):
            parts.append(_text(x + 44, y + 5 + 17 * row, line_of, "name"))
    for phase in tops:
        x = off if phase in beside else middle
        parts.append(_box(x - width / 2, tops[phase], width, high, str(phase)))
    parts.append(_box(25, bottom, width, high, "aborted"))
    parts.append(_text(104, bottom - 12, "a check fails", "small"))
    return Drawing(800, bottom + high + 8, label, parts)


def messages() -> Drawing:
    """The messages between one device and the server, in order."""
    left, right, at, step = 120, 640, 64, 46
    parts: list[str] = []
    rows: list[str] = []
    waiting, phase = server.Phase.ADVERTISING, device.Phase.NEW
    expected = ""

    def arrow(name: str, y: float, *, up: bool) -> None:
        ends = [(left, y), (right, y)] if up else [(right, y), (left, y)]
        rows.append(_line(ends, "ink"))
        rows.append(_text((left + right) / 2, y - 7, name, "name", "middle"))
        rows.append(_text((left + right) / 2, y + 15, SAYS[name], "small", "middle"))

    def onward() -> list[tuple[str, Any]]:
        """What leads on from a phase where nobody complains."""
        return [
            (event, transition)
            for (s, event), transition in device.TRANSITIONS.items()
            if s == phase != transition.target
        ]

    def close(y: float) -> None:
        """The end of the server's phase."""
        nonlocal waiting, expected
        closing = server.TRANSITIONS[waiting, "close"]
        rows.append(_box(right - 95, y - 13, 190, 30, SETTLES[waiting], "small"))
        waiting, expected = closing.target, closing.answer

    while (found := onward()) != []:
        ((event, transition),) = found
        if event in LOCAL:
            rows.append(_text(left - 10, at + 5, LOCAL[event], "small", "end"))
        else:
            if event != expected:
                raise ValueError(f"a device awaits {event}, the server sends {expected}")
            arrow(event, at, up=False)
            at += step
        if transition.detour:
            close(at)
            at += step + 12
        elif transition.answer:
            if server.TRANSITIONS[waiting, transition.answer].target != waiting:
                raise ValueError(f"{transition.answer} ends the server's phase: draw it anew")
            arrow(transition.answer, at, up=True)
            at += step
            close(at)
            at += step + 12
        phase = transition.target
    for x, name in ((left, "device"), (right, "server")):
        parts.append(_line([(x, 38), (x, at - 20)], "faint", arrow=False))
        parts.append(_box(x - 60, 8, 120, 30, name))
    return Drawing(760, int(at - 12), "Messages of a secure sum", parts + rows)


def _line(points: Sequence[tuple[float, float]], kind: str, *, arrow: bool = True) -> str:
    head = ' marker-end="url(#head)"' if arrow else ""
    return f'<polyline class="{kind}" points="{" ".join(f"{x},{y}" for x, y in points)}"{head}/>'


def _text(x: float, y: float, words: str, kind: str = "", anchor: str = "start") -> str:
    return f'<text class="{kind}" x="{x}" y="{y}" text-anchor="{anchor}">{escape(words)}</text>'


def _box(x: float, y: float, width: float, height: float, words: str, kind: str = "name") -> str:
    return f'<rect class="box" x="{x}" y="{y}" width="{width}" height="{height}" rx="5"/>' + _text(
        x + width / 2, y + height / 2 + 5, words, kind, "middle"
    )
