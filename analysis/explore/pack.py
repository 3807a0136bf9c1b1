"""The explorer as one HTML file: all states of the keep rate, all attention maps, and the effect of each patch."""

from __future__ import annotations

import base64
import gzip
import io
import json
from pathlib import Path

import numpy as np
from torch import Tensor
from tqdm import tqdm

from analysis.explore import hands
from analysis.explore.state import Dense, Remainder, label, methods_of, reduced

RATES = (0.9, 0.8, 0.7, 0.6, 0.5, 0.4, 0.3)
TEMPLATE = Path(__file__).with_name("explore.html")


def page(dense: Dense, layer: int, methods: list[str] | None = None, rates: tuple[float, ...] = RATES) -> str:
    """The HTML; ``layer``: in front of which patches are hidden and merged by hand."""
    data = content(dense, layer, methods, rates)
    text = json.dumps(data, allow_nan=False, separators=(",", ":")).replace("</", "<\\/")
    html = TEMPLATE.read_text(encoding="utf-8")
    return html.replace("{{ title }}", f"{dense.subject.label}").replace("{{ data }}", text)


def content(dense: Dense, layer: int, methods: list[str] | None, rates: tuple[float, ...]) -> dict:
    states = [
        (method, rate)
        for method in (methods_of(dense) if methods is None else methods)
        for rate in (rates if method != "stvit" else rates[:1])
    ]
    found: dict[str, dict] = {}
    for method, rate in tqdm(states, "methods and keep rates", leave=False):
        entry = found.setdefault(method, {"label": label(method), "states": []})
        entry["states"].append({"rate": rate, **state_of(reduced(dense, method, rate), method == "stvit")})
    x = hands.tokens_before(dense.model, dense.images, layer)
    effects = hands.single_effects(dense.model, x, layer, dense.feature, dense.prefix)
    return {
        "model": dense.subject.label,
        "grid": dense.grid,
        "prefix": dense.prefix,
        "layers": dense.attention.shape[0],
        "heads": dense.attention.shape[1],
        "multiplyAdds": dense.multiply_adds,
        "image": picture(dense.pixels),
        "read": [round(value, 5) for value in dense.read().tolist()],
        "attention": maps(dense.attention),
        "methods": found,
        "effects": {
            "layer": layer,
            "partner": effects["partner"].tolist(),
            **{name: [float(f"{v:.3g}") for v in effects[name].tolist()] for name in ("hide", "merge")},
        },
    }


def state_of(one: Remainder, soft: bool) -> dict:
    """A state as JSON; equal layers are written once. ``soft``: with how much of each patch a token holds."""
    changes = [i for i in range(len(one.labels)) if not i or (one.labels[i] != one.labels[i - 1]).any()]
    told = {
        "setting": one.setting,
        "tokens": one.tokens,
        "labels": {str(i): one.labels[i].tolist() for i in changes},
        "multiplyAdds": one.multiply_adds,
        "cosine": round(one.cosine, 5),
        "lost": round(one.lost, 5),
    }
    if soft:
        told["shares"] = [[round(float(value), 4) for value in row] for row in one.shares]
    return told


def maps(attention: Tensor) -> str:
    """Each row as bytes, the root of its values over the root of its largest: gzip, base64."""
    roots = attention.sqrt()
    scaled = roots / roots.amax(-1, keepdim=True)
    return base64.b64encode(gzip.compress((255 * scaled).round().byte().numpy().tobytes(), 6)).decode()


def picture(pixels: np.ndarray) -> str:
    from PIL import Image

    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "jpeg", quality=90)
    return "data:image/jpeg;base64," + base64.b64encode(file.getvalue()).decode()
