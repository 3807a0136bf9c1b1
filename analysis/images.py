"""Pictures to look at: samples that ship with the dependencies, the project's scenes, and users' own files.

    photo("china", 224)           (224, 224, 3) uint8, the shorter side scaled, the middle cut out
    photo("holiday.heic", (224, 336))
    photo("scene:7", 48)          scene 7 of the test split
    normalised(photos, model)     (B, 3, H, W), as the model was trained to read them

Names are those of SAMPLES (see ``photographs.py``); anything else is a path to a file that Pillow reads.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from stvit.data.photographs import FILES, find

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

Size = tuple[int, int]
SAMPLES = (*FILES, "scene")


class PictureError(ValueError):
    """A picture that cannot be shown, and why, in one line."""


def photo(name: str | Path, size: int | Size = 224) -> np.ndarray:
    """A sample or a file as (H, W, 3) uint8: scaled until it covers ``size``, then cut in the middle."""
    height, width = (size, size) if isinstance(size, int) else size
    text = str(name)
    if text.split(":")[0] == "scene":
        number = text.partition(":")[2] or "0"
        if not number.isdigit():
            raise PictureError(f"{text!r}: a scene is named by its number, such as scene:7")
        if height != width:
            raise PictureError(f"scenes are square, not {height} × {width}")
        return scenes(1, height, first=int(number)).images[0].permute(1, 2, 0).numpy()
    from PIL import ImageOps

    # fit() scales and crops in one step; BICUBIC is how the models' training crops were made
    return np.asarray(ImageOps.fit(_open(text), (width, height), method=3))


@lru_cache(maxsize=8)
def scenes(count: int, size: int = 48, first: int = 0):
    """Scenes of the test split, which no model was trained on: images, labels and object masks."""
    import torch

    from stvit.data.scenes import SceneConfig, draw_scenes, sized

    return draw_scenes(sized(SceneConfig(), size), torch.arange(first, first + count), "test")


def normalised(photos: np.ndarray | torch.Tensor, model: torch.nn.Module) -> torch.Tensor:
    """(B, H, W, 3) or one (H, W, 3) uint8 → (B, 3, H, W) by the mean and deviation of the model's training."""
    import torch

    photos = torch.as_tensor(np.array(photos))
    images = (photos[None] if photos.ndim == 3 else photos).permute(0, 3, 1, 2) / 255
    cfg = getattr(model, "pretrained_cfg", None) or {}
    get = cfg.get if isinstance(cfg, dict) else lambda key: getattr(cfg, key, None)
    mean, std = get("mean") or (0.485, 0.456, 0.406), get("std") or (0.229, 0.224, 0.225)
    return (images - torch.tensor(mean)[:, None, None]) / torch.tensor(std)[:, None, None]


def _open(name: str) -> Image:
    if Path(name).exists():
        return _read(name, name)
    if name not in FILES:
        raise PictureError(f"no image {name!r}: neither a file nor one of {', '.join(SAMPLES)}")
    photograph = find(name)
    if photograph is None:
        package = FILES[name][0].split("/")[0].replace("skimage", "scikit-image")
        raise PictureError(f"{name!r} ships with {package}: pip install {package}")
    return _read(photograph.path, name)


def read_photograph(path: Path, side: int) -> Image:
    """A photograph as RGB, scaled down until its shorter side has ``side`` pixels if it has more."""
    image = _read(path, str(path), side)
    factor = side / min(image.size)
    size = tuple(max(1, round(length * factor)) for length in image.size)
    return image.resize(size, resample=3, reducing_gap=3) if factor < 1 else image


def _read(path: str | Path, name: str, least: int = 0) -> Image:
    """Any mode as RGB: transparency on white, 16 bits scaled to 8, the camera's rotation applied.

    least: pixels of the shorter side that are enough, which spares the work of decoding a large JPEG in full
    """
    from PIL import Image, ImageOps, UnidentifiedImageError

    try:
        with Image.open(path) as file:
            if least:
                file.draft("RGB", (least, least))
            image = ImageOps.exif_transpose(file)
            image.load()
    except IsADirectoryError:
        raise PictureError(f"{name} is a folder, not an image") from None
    except PermissionError:
        raise PictureError(f"{name} may not be read") from None
    except UnidentifiedImageError:
        raise PictureError(f"{name} is not an image in a format that Pillow reads") from None
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise PictureError(f"{name} is damaged: {str(error).splitlines()[0]}") from None
    if min(image.size) < 1:
        raise PictureError(f"{name} is empty")
    return _rgb(image)


def _rgb(image: Image) -> Image:
    from PIL import Image

    if image.mode.startswith("I") or image.mode == "F":
        values = np.nan_to_num(np.asarray(image, dtype=np.float64))
        top = 65535 if image.mode.startswith("I") and values.max() > 255 else max(values.max(), 1e-9)
        return Image.fromarray((values.clip(0, top) / top * 255).astype(np.uint8)).convert("RGB")
    if "A" in image.getbands() or "transparency" in image.info:
        image = image.convert("RGBA")
        white = Image.new("RGBA", image.size, "white")
        return Image.alpha_composite(white, image).convert("RGB")
    return image.convert("RGB")
