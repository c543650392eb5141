"""What every report is made of: a document, its page, the pieces of a section, drawings, numbers in words."""

from fairyring.records import units
from fairyring.report.kit.curves import STYLES, curves, legend_below, measure_axis
from fairyring.report.kit.document import Document, Section, page
from fairyring.report.kit.drawing import ACCENT, INK, MUTED, PAPER, RULE, SOFT, WARM, svg, whole_ticks
from fairyring.report.kit.html import (
    Figure,
    absent,
    escaped,
    flat,
    folded,
    grid,
    judged,
    mapping,
    number,
    pair,
    paragraph,
    stat,
    table,
    trio,
    when,
    words,
)
from fairyring.report.kit.means import mean_text, value_text, width_text

__all__ = [
    "ACCENT",
    "INK",
    "MUTED",
    "PAPER",
    "RULE",
    "SOFT",
    "STYLES",
    "WARM",
    "Document",
    "Figure",
    "Section",
    "absent",
    "curves",
    "escaped",
    "flat",
    "folded",
    "grid",
    "judged",
    "legend_below",
    "mapping",
    "mean_text",
    "measure_axis",
    "number",
    "page",
    "pair",
    "paragraph",
    "stat",
    "svg",
    "table",
    "trio",
    "units",
    "value_text",
    "when",
    "whole_ticks",
    "width_text",
    "words",
]
