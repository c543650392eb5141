"""Figures as SVG, to be written into a page.

Colours are CSS variables and type is the page's, so that a figure follows the page between light, dark and
paper. Nothing here touches matplotlib's global state beyond a context, and nothing depends on time or chance:
the same numbers give the same bytes.
"""

import io
import re
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from fairyring.core.errors import MissingExtra

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# A colour that no figure uses stands for each CSS variable of the page until the SVG is written.
INK, MUTED, RULE, ACCENT, WARM, SOFT, PAPER = (f"#0101{i:02x}" for i in range(1, 8))
_VARIABLES = dict(
    zip(
        (INK, MUTED, RULE, ACCENT, WARM, SOFT, PAPER),
        ("ink", "muted", "rule", "accent", "warm", "soft", "paper"),
        strict=True,
    )
)
_STYLE: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "fairyring",
    "font.family": "sans-serif",
    "font.size": 10.5,
    "text.color": INK,
    "axes.edgecolor": RULE,
    "axes.labelcolor": MUTED,
    "axes.titlecolor": INK,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 12,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.spines.left": False,
    "axes.grid": True,
    "axes.grid.axis": "y",
    "axes.axisbelow": True,
    "axes.linewidth": 0.9,
    "axes.xmargin": 0.02,
    "grid.color": RULE,
    "grid.linewidth": 0.7,
    "xtick.color": RULE,
    "ytick.color": RULE,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "ytick.left": False,
    "xtick.major.size": 3,
    "legend.frameon": False,
    "legend.fontsize": 10.0,
    "lines.solid_capstyle": "round",
    "lines.solid_joinstyle": "round",
    "figure.facecolor": "none",
    "axes.facecolor": "none",
    "savefig.facecolor": "none",
}


def svg(key: str, draw: Callable[["Axes"], None], size: tuple[float, float] = (5.4, 3.1)) -> str:
    """A figure as SVG without outside references.

    Args:
        key: unique on the page; all ids of the figure begin with it.
        draw: draws on the axes.
        size: in inches.

    Raises:
        MissingExtra: matplotlib is not installed.
    """
    try:
        import matplotlib as mpl
        from matplotlib.backends.backend_svg import FigureCanvasSVG
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtra("matplotlib", extra="report", purpose="figures of a report") from error

    with mpl.rc_context():
        mpl.rcdefaults()
        mpl.rcParams.update(_STYLE)
        figure = Figure(figsize=size, layout="constrained")
        draw(figure.add_subplot())
        written = io.StringIO()
        FigureCanvasSVG(figure).print_svg(
            written, metadata={"Date": None, "Creator": None, "Format": None, "Type": None}
        )
    text = written.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r' xmlns(:\w+)?="[^"]*"', "", text).replace("xlink:href=", "href=")
    # Every figure of the page shares one space of ids.
    text = re.sub(r'(id="|href="#|url\(#)', rf"\g<1>{re.sub(r'[^a-z0-9-]', '-', key.lower())}-", text)
    text = re.sub(r'<svg [^>]*?(viewBox="[^"]*")[^>]*>', r'<svg \1 aria-hidden="true">', text, count=1)
    for colour, variable in _VARIABLES.items():
        text = text.replace(colour, f"var(--{variable})")
    return text


def whole_ticks(axis: Any) -> None:
    """Ticks at whole numbers only, along an axis."""
    from matplotlib.ticker import FuncFormatter, MaxNLocator

    axis.set_major_locator(MaxNLocator(nbins=6, steps=[1, 2, 5, 10], integer=True, min_n_ticks=1))
    axis.set_major_formatter(FuncFormatter(lambda v, _: f"{v:,.0f}"))
