"""The looks of the plots: colours for a light and a dark ground, labels at lines, and how a plot is saved.

The problem: a picture cannot find out whether its page is dark. Files for both cases need <picture>, which package
indexes do not show. The solution: matplotlib draws with the light colours. The file then gets a style sheet that
replaces each of them, if the reader prefers dark. The limits: the light colours must differ from each other, and every
colour of a plot must be one of them. A viewer without style sheets shows the light plot, on its own ground.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from matplotlib import pyplot
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter, NullLocator

from .peers import PEERS

#: Of each thing that is drawn, the colour on a light ground, and that on a dark one.
COLOURS = {
    "ground": ("#ffffff", "#0d1117"),
    "ink": ("#1f2328", "#e6edf3"),
    "muted": ("#59636e", "#9aa4af"),
    "faint": ("#b3bac2", "#4d5661"),
    "grid": ("#dfe3e8", "#2a3038"),
    "goproc": ("#0060a8", "#58a6ff"),
    "multiprocessing": ("#24292f", "#f0f6fc"),
    "concurrent.futures": ("#a65e00", "#f0a63a"),
    "joblib": ("#00795a", "#3fcf9f"),
    "billiard": ("#a8437f", "#e58fc3"),
    "mpire": ("#c23b00", "#ff8a5c"),
    "multiprocess": ("#2a7d95", "#7fd0e6"),
    "faster_fifo": ("#6b6b00", "#c8c83c"),
    "pebble": ("#6b5b00", "#d6c65a"),
    "well": ("#d4efdb", "#123d24"),
    "broken": ("#fbe6b8", "#4f3a0c"),
    "lost": ("#f7cfca", "#5c1f1f"),
}
LIGHT = {name: light for name, (light, _) in COLOURS.items()}
INK, MUTED, FAINT = LIGHT["ink"], LIGHT["muted"], LIGHT["faint"]
MARKERS = dict(zip(PEERS, ("o", "d", "s", "^", "D", "v", "X", "P", "p"), strict=True))

STYLE_SHEET: Any = {
    "backend": "svg",
    "font.size": 10,
    "font.family": "DejaVu Sans",
    "text.color": INK,
    "axes.edgecolor": MUTED,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.facecolor": LIGHT["ground"],
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.grid": True,
    "figure.facecolor": LIGHT["ground"],
    "grid.color": LIGHT["grid"],
    "grid.linewidth": 0.6,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "xtick.labelcolor": INK,
    "ytick.labelcolor": INK,
    "svg.hashsalt": "goproc",
}


def dark_style() -> str:
    """Return the style sheet that replaces the light colours, if the reader prefers a dark ground."""
    rules = [
        f'[style*="{what}: {light}"] {{ {what}: {dark} !important }}'
        for light, dark in COLOURS.values()
        for what in ("fill", "stroke")
    ]
    return '<style type="text/css">\n@media (prefers-color-scheme: dark) {\n' + "\n".join(rules) + "\n}\n</style>\n"


def save(figure, folder: Path, name: str, title: str) -> Path:
    """Save a figure as an SVG file that has both schemes; return its path."""
    path = folder / name
    figure.savefig(path, bbox_inches="tight", pad_inches=0.15, metadata={"Date": None, "Creator": None, "Title": title})
    pyplot.close(figure)
    # Remove spaces at the ends of lines, because format checkers refuse them.
    text = "\n".join(line.rstrip() for line in path.read_text(encoding="utf-8").splitlines()) + "\n"
    path.write_text(text.replace("</metadata>\n", f"</metadata>\n{dark_style()}", 1), encoding="utf-8")
    return path


def headline(figure, title: str, below: str = "", gap: float = 0.12) -> None:
    """Put a title above the figure, and a line of explanation below it. gap: inches above the figure's content."""
    height = figure.get_size_inches()[1]
    left, top = min(axis.get_position().x0 for axis in figure.axes), max(axis.get_position().y1 for axis in figure.axes)
    y = top + gap / height
    if below:
        figure.text(left, y, below, fontsize=9, color=MUTED, va="bottom")
        y += (0.05 + 0.16 * (1 + below.count("\n"))) / height
    figure.text(left, y, title, fontsize=12, fontweight="bold", va="bottom")


def footnote(figure, text: str, gap: float = 0.55) -> None:
    """Put a small line under a figure. gap: inches below the axes."""
    bottom, left = (
        min(axis.get_position().y0 for axis in figure.axes),
        min(axis.get_position().x0 for axis in figure.axes),
    )
    figure.text(left, bottom - gap / figure.get_size_inches()[1], text, fontsize=8, color=MUTED, va="top")


def plain(value: float, _position=None) -> str:
    """Show a tick of a logarithmic axis as a plain number."""
    return f"{value:,.10g}"


def logarithmic(axis, subs=(1, 2, 5)) -> None:
    """Make an axis of a plot (xaxis or yaxis) logarithmic, with plain numbers."""
    axis.axes.set(**{f"{axis.axis_name}scale": "log"})
    axis.set_major_locator(LogLocator(base=10, subs=subs))
    axis.set_major_formatter(FuncFormatter(plain))
    axis.set_minor_locator(NullLocator())
    axis.set_minor_formatter(NullFormatter())


@dataclass
class Label:
    """A text beside a point. left, right, up: its place in points, from the figure's corner; up is its middle."""

    x: float
    y: float
    text: str
    colour: str
    left: float
    right: float
    up: float


def label_points(axis, texts: Iterable[tuple[float, float, str, str]], size: float = 9) -> None:
    """Write a text to the right of each point, in its colour: (x, y, text, colour). Texts that overlap move apart.

    The limits of the axes must have been set. size: of the letters, in points.
    """
    height, letter, gap = size * 1.3, size * 0.66, 8
    labels = []
    for x, y, text, colour in texts:
        across, up = axis.transData.transform((x, y)) * 72 / axis.figure.dpi
        labels.append(Label(x, y, text, colour, across + gap, across + gap + letter * len(text), up))
    wanted = {id(label): label.up for label in labels}
    piles: list[list[Label]] = []
    for label in sorted(labels, key=lambda label: label.up):
        pile = [label]
        while touched := next((other for other in piles if _overlap(other, pile, height)), None):
            piles.remove(touched)
            pile = touched + pile
            middle = sum(wanted[id(each)] for each in pile) / len(pile)
            for place, each in enumerate(pile):
                each.up = middle + (place - (len(pile) - 1) / 2) * height
        piles.append(pile)
    for label in labels:
        axis.annotate(
            label.text,
            (label.x, label.y),
            (gap, label.up - wanted[id(label)]),
            textcoords="offset points",
            va="center",
            color=label.colour,
            fontsize=size,
            fontweight="bold" if label.text == "goproc" else "normal",
            bbox={"facecolor": LIGHT["ground"], "edgecolor": "none", "pad": 0.6, "alpha": 0.85},
            zorder=4,
            annotation_clip=False,
        )


def _overlap(pile: list[Label], other: list[Label], height: float) -> bool:
    """Return whether texts of two piles overlap. height: of a text."""
    return any(
        abs(one.up - two.up) < height * 0.99 and one.left < two.right and two.left < one.right
        for one in pile
        for two in other
    )
