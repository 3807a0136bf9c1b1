"""One model and one image, to look into by hand: where tokens go, who looks at whom, and what hiding a token changes.

explore("dinov2_small", "astronaut")    widgets in a notebook; the command of this name writes a page
"""

from __future__ import annotations


def explore(model="dinov2_small", image="astronaut", size: int | None = None):
    """Widgets over a model (a name, a checkpoint's folder, or a Subject) and an image (a name, a file, or pixels)."""
    from analysis.explore.widgets import Explorer

    return Explorer(model, image, size).box
