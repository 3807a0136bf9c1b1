"""Image files as 8-bit pictures. A file that cannot be decoded is an ``ImageError`` that names it."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import BinaryIO

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torchvision.transforms.functional import pil_to_tensor

WIDE = 257  # 65535 / 255: from the range of 16 bits to that of 8


class ImageError(ValueError):
    """An image file that cannot be used, and why, in one line."""


def open_image(file: str | Path | BinaryIO, name: str | Path | None = None) -> Image.Image:
    """The decoded picture in the file's own mode; ``name`` is what messages call it (by default its path)."""
    name = file if name is None else name
    try:
        with warnings.catch_warnings():
            # Pillow warns of images above its limit and refuses those above twice the limit: both are refused here
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            with Image.open(file) as image:
                image.load()
                return image.copy() if image.mode == "P" else image
    except (Image.DecompressionBombError, Image.DecompressionBombWarning):
        raise ImageError(
            f"{name} is larger than {Image.MAX_IMAGE_PIXELS:,} pixels, which may be an attack; scale it down, or raise "
            "PIL.Image.MAX_IMAGE_PIXELS"
        ) from None
    except FileNotFoundError:
        raise ImageError(f"{name} does not exist") from None
    except Exception as error:  # a damaged file can raise anything
        raise ImageError(f"{name} cannot be decoded: {reason(error, file)}; replace or remove it") from None


def reason(error: Exception, file: str | Path | BinaryIO) -> str:
    if isinstance(error, Image.UnidentifiedImageError):
        empty = isinstance(file, (str, Path)) and Path(file).stat().st_size == 0
        return "the file is empty" if empty else "it is no image"
    return str(error).strip().split("\n")[0] or type(error).__name__


def read_rgb(file: str | Path | BinaryIO, name: str | Path | None = None) -> Image.Image:
    """An 8-bit RGB picture; values of 16 bits are scaled, not cut off."""
    image = open_image(file, name)
    if image.mode.startswith("I"):
        image = from_wide(np.asarray(image), file if name is None else name)
    elif image.mode == "F":
        raise ImageError(
            f"{file if name is None else name} has floating-point pixels, whose range is not known; save it with 8 or "
            "16 bits"
        )
    return image.convert("RGB")


def from_wide(values: np.ndarray, name) -> Image.Image:
    """Grey values of 16 bits (H, W), which Pillow may hold in 32, as 8 bits."""
    lowest, highest = int(values.min()), int(values.max())
    if lowest < 0 or highest > 65535:
        raise ImageError(f"{name} has values from {lowest} to {highest}; save it with 8 or 16 bits")
    return Image.fromarray(((values.astype(np.int64) + WIDE // 2) // WIDE).astype(np.uint8))


def read_pixels(path: Path) -> Tensor:
    """(3, H, W) uint8."""
    return pil_to_tensor(read_rgb(path))


def read_numbers(path: Path) -> Tensor:
    """(H, W) uint8: a map with one number a pixel, as grey values or as entries of a palette."""
    image = open_image(path)
    if image.mode not in ("L", "P"):
        raise ImageError(f"{path} is {image.mode}: a map of classes has one number of 8 bits a pixel")
    return torch.from_numpy(np.array(image))
