"""Pictures of what dense models see in test scenes: the class of every pixel, and objects with their boxes."""

from __future__ import annotations

import numpy as np

from analysis import style
from analysis.panels import INCHES, blank

SHADES = (0.35, 0.55, 0.75, 0.95)  # of a hue, one a shape
FIRST_SCENE = 9  # the first test scene that is drawn; earlier ones are in other figures
SURE = 0.5  # detections below this score are not drawn


def scenes(count: int):
    """Test scenes as the dense models were tested on."""
    import torch

    from analysis.dense.cells import SIDE as side
    from stvit.data.scenes import SceneConfig, draw_scenes, sized

    return draw_scenes(sized(SceneConfig(), side), torch.arange(FIRST_SCENE, FIRST_SCENE + count), "test")


def colours():
    """The ground and the twelve classes: hue by hue, a shade for each shape."""
    import matplotlib as mpl

    maps = [mpl.colormaps[name] for name in ("Reds", "Greens", "Blues")]
    return np.array([(0.93, 0.93, 0.93), *(hue(shade)[:3] for shade in SHADES for hue in maps)])


def segment(model, images):
    """(B, H, W) classes of uint8 images."""
    from stvit.data.drawn import normalise
    from stvit.dense.segmentation.inference import predict

    return predict(model, normalise(images)).argmax(1).numpy()


def masks(models: dict, count: int = 6):
    """A row of scenes, one of the truth, one for each model; ``models`` by the name in the figure."""
    from matplotlib.patches import Patch

    from stvit.data.maps import CLASS_NAMES

    drawn, table = scenes(count), colours()
    rows = {"scene": drawn.images.permute(0, 2, 3, 1).numpy(), "truth": table[drawn.semantic.numpy()]}
    rows |= {name: table[segment(model, drawn.images)] for name, model in models.items()}
    with style.house_style():
        fig, axes = style.figure(
            INCHES * count + 0.6, INCHES * len(rows) + 0.5, len(rows), count, squeeze=False
        )
        for line, (name, pictures) in zip(axes, rows.items(), strict=True):
            for ax, picture in zip(line, pictures, strict=True):
                ax.imshow(picture, interpolation="nearest")
                blank(ax)
            line[0].set_ylabel(name)
        handles = [Patch(color=colour, label=name) for colour, name in zip(table, CLASS_NAMES, strict=True)]
        fig.legend(handles=handles, loc="outside lower center", ncols=7, handlelength=1)
    return fig


def detections(model, count: int = 6, name: str = "detected"):
    """Scenes with their true boxes, and below them what a detector finds with a score above one half."""
    import torch

    from stvit.data.scenes import CLASSES

    drawn = scenes(count)
    with torch.inference_mode():
        found = model([image.float() / 255 for image in drawn.images])
    with style.house_style():
        fig, axes = style.figure(INCHES * count + 0.6, 2 * INCHES + 0.3, 2, count, squeeze=False)
        for i, image in enumerate(drawn.images.permute(0, 2, 3, 1).numpy()):
            there = drawn.boxes[i, :, 2] > 0
            panel(axes[0, i], image, drawn.boxes[i][there].float(), drawn.classes[i][there].tolist(), CLASSES)
            sure = found[i]["scores"] >= SURE
            labels = (found[i]["labels"][sure] - 1).tolist()
            panel(
                axes[1, i], image, found[i]["boxes"][sure], labels, CLASSES, found[i]["masks"][sure, 0] >= 0.5
            )
        axes[0, 0].set_ylabel("truth")
        axes[1, 0].set_ylabel(name)
    return fig


def panel(ax, image: np.ndarray, boxes, labels: list[int], names: tuple[str, ...], masks=None) -> None:
    from matplotlib.patches import Rectangle

    table = colours()[1:]
    picture = image / 255
    for mask, label in zip(() if masks is None else masks.numpy(), labels, strict=False):
        picture[mask] = 0.4 * picture[mask] + 0.6 * table[label]
    ax.imshow(picture, interpolation="nearest")
    for (x0, y0, x1, y1), label in zip(boxes.tolist(), labels, strict=True):
        ax.add_patch(Rectangle((x0 - 0.5, y0 - 0.5), x1 - x0, y1 - y0, fill=False, ec="white", lw=0.8))
        above = y0 > 4  # else inside the box, so that the name stays in the picture
        ax.text(x0 + (not above), y0 - 1 if above else y0 + 4, names[label], fontsize=3.5, color="white")
    blank(ax)
