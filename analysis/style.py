"""The house style for figures: the one place that says how they look and how they are saved."""

from __future__ import annotations

import io
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

COLUMN, PAGE = 3.4, 7.0  # widths in inches of one and of two columns of a paper
DPI = 200  # of figures in pixels
PALETTE_SIDE = 240  # pixels of a picture's longer side that its colours are chosen from

# Okabe and Ito's palette: distinguishable with every common form of colour blindness.
INK = "#1b1b1b"
BLUE, ORANGE, GREEN, VERMILION = "#0072B2", "#E69F00", "#009E73", "#D55E00"
SKY, PURPLE, YELLOW, GREY = "#56B4E9", "#CC79A7", "#F0E442", "#7f7f7f"
CYCLE = [BLUE, VERMILION, GREEN, ORANGE, PURPLE, SKY, INK, GREY]

# One colour a method, in every figure of the project.
METHOD = {
    "dense": INK,
    "stvit": BLUE,
    "stvit_r": SKY,
    "bat": VERMILION,
    "evit": ORANGE,
    "tome": GREEN,
    "dynamicvit": PURPLE,
    "topk": GREY,
}
PRINTED_COLOUR, MEASURED, PREDICTED = GREY, BLUE, VERMILION

RC = {
    "figure.dpi": 90,
    "savefig.bbox": "tight",
    "savefig.pad_inches": 0.03,
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.titlesize": 8.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.labelsize": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    "axes.grid": True,
    "grid.color": "#e3e3e3",
    "grid.linewidth": 0.5,
    "axes.axisbelow": True,
    "xtick.labelsize": 7,
    "ytick.labelsize": 7,
    "legend.fontsize": 7,
    "legend.frameon": False,
    "lines.linewidth": 1.4,
    "lines.markersize": 4,
    "svg.fonttype": "none",
    "svg.hashsalt": "stvit",  # equal figures give equal files
    "pdf.fonttype": 42,
}


@contextmanager
def house_style():
    """Draw in the house style and leave matplotlib as it was."""
    import matplotlib as mpl

    with mpl.rc_context(rc={**RC, "axes.prop_cycle": mpl.cycler(color=CYCLE)}):
        yield
        interactive = mpl.is_interactive()
    mpl.interactive(interactive)  # a notebook's backend turns this on when it draws first; it stays on


def figure(width: float = PAGE, height: float = 2.6, rows: int = 1, columns: int = 1, **kwargs):
    """A figure and its axes in the house style; call inside ``house_style()``."""
    import matplotlib.pyplot as plt

    return plt.subplots(rows, columns, figsize=(width, height), layout="constrained", **kwargs)


def render(fig: Figure) -> dict[str, bytes]:
    """The figure as ``.svg`` (vector) and ``.png`` (DPI), without dates inside; it is closed."""
    import matplotlib.pyplot as plt

    files = {".svg": io.BytesIO(), ".png": io.BytesIO()}
    with house_style():
        fig.savefig(files[".svg"], format="svg", metadata={"Date": None})
        fig.savefig(files[".png"], format="png", dpi=DPI, metadata={"Software": None})
    plt.close(fig)
    return {suffix: file.getvalue() for suffix, file in files.items()}


def write_pdf(fig: Figure, path: Path) -> None:
    """The figure as vectors with its fonts inside, without a date; it stays open."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with house_style():
        fig.savefig(path, format="pdf", metadata={"CreationDate": None})


def save(fig: Figure, stem: Path) -> list[Path]:
    """Write ``stem.svg`` and ``stem.png``, and close."""
    stem.parent.mkdir(parents=True, exist_ok=True)
    paths = []
    for suffix, data in render(fig).items():
        paths.append(stem.with_suffix(suffix))
        paths[-1].write_bytes(data)
    return paths


def shown(fig: Figure, dpi: int = 110):
    """The figure as a picture for a notebook, with 256 colours: a third of the bytes; it is closed."""
    import matplotlib.pyplot as plt
    from IPython.display import Image

    file = io.BytesIO()
    with house_style():
        fig.savefig(file, format="png", dpi=dpi, metadata={"Software": None})
    plt.close(fig)
    return Image(shrunk(file.getvalue(), 10**6))


def shrunk(png: bytes, limit: int) -> bytes:
    """The picture with 256 colours, in at most ``limit`` bytes: smaller where that does not do."""
    from PIL import Image

    scale, full = 1.0, Image.open(io.BytesIO(png)).convert("RGB")
    palette = palette_of(full)
    while True:
        size = [round(side * scale) for side in full.size]
        image = full.resize(size, Image.Resampling.LANCZOS) if scale < 1 else full
        file, dpi = io.BytesIO(), DPI * scale
        drawn = image.quantize(palette=palette, dither=Image.Dither.NONE)
        drawn.save(file, "png", optimize=True, dpi=(dpi, dpi))
        if file.tell() <= limit:
            return file.getvalue()
        scale *= 0.85


def palette_of(picture):
    """256 colours, where white is white, from every few pixels: from all it takes seconds and is no better."""
    from PIL import Image

    step = max(1, round(max(picture.size) / PALETTE_SIDE))
    few = picture.resize([-(-side // step) for side in picture.size], Image.Resampling.NEAREST)
    palette = few.quantize(256, Image.Quantize.MAXCOVERAGE, kmeans=1)
    values = palette.getpalette()  # red, green, blue, red, ...
    for i in range(0, len(values), 3):
        if min(values[i : i + 3]) >= 248:  # a mean of white and what is near it
            values[i : i + 3] = [255, 255, 255]
    palette.putpalette(values)
    return palette
