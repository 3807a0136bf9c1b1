"""Image files as 8-bit pictures, whatever mode they have."""

import numpy as np
import pytest
import torch
from PIL import Image

from stvit.data.images import ImageError, read_numbers, read_pixels, read_rgb


@pytest.fixture
def wide():
    """Grey values over the whole range of 16 bits, and what they are in 8."""
    values = np.linspace(0, 65535, 64).round().astype(np.uint16).reshape(8, 8)
    return values, torch.from_numpy((values / 257).round().astype(np.uint8)).expand(3, 8, 8)


@pytest.mark.parametrize("kind", ["png", "tiff"])
def test_grey_values_of_16_bits_are_scaled(wide, kind, tmp_path):
    values, expected = wide
    Image.fromarray(values).save(tmp_path / f"a.{kind}")
    assert read_pixels(tmp_path / f"a.{kind}").equal(expected)


def test_16_bits_that_a_file_holds_in_32(wide, tmp_path):
    values, expected = wide
    Image.fromarray(values.astype(np.int32)).save(tmp_path / "a.tiff")
    assert read_pixels(tmp_path / "a.tiff").equal(expected)


@pytest.mark.parametrize(
    ("values", "words"), [(np.int32([[70000]]), "70000"), (np.float32([[0.5]]), "floating-point")]
)
def test_ranges_that_are_not_known(values, words, tmp_path):
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(ImageError, match=f"a.tiff has .*{words}.*save it with 8 or 16 bits"):
        read_pixels(tmp_path / "a.tiff")


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr"])
def test_every_other_mode_is_as_pillow_converts_it(mode, tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 256, (9, 7, 3), dtype=np.uint8)).convert(
        mode
    )
    path = tmp_path / ("a.tiff" if mode in ("CMYK", "YCbCr") else "a.png")
    image.save(path)
    with Image.open(path) as file:
        expected = np.array(file.convert("RGB"))
    assert np.array_equal(np.array(read_rgb(path)), expected)


@pytest.mark.parametrize("mode", ["L", "P"])
def test_maps_of_numbers_are_not_coloured(mode, tmp_path):
    numbers = np.arange(12, dtype=np.uint8).reshape(3, 4)
    image = Image.fromarray(numbers)
    if mode == "P":
        image.putpalette([200, 10, 30] * 256)
    image.save(tmp_path / "a.png")
    assert read_numbers(tmp_path / "a.png").equal(torch.from_numpy(numbers))
