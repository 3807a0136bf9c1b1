"""What a registered model without a closed form costs: build it on the meta device and count it."""

from __future__ import annotations

from typing import Any

from analysis.complexity.whatif import KNOWN, BadInput, Request, unknown_model
from analysis.shared.counting import Count, count, create
from analysis.shared.flops.readings import Build

OPTIONS = {"tokens": "num_semantic_tokens", "depth": "depth", "stgm_at": "stgm_at", "keep_rate": "keep_rate"}


def check_registered(name: str) -> None:
    import timm

    import stvit  # noqa: F401  registers its models

    if not timm.is_model(name):
        raise unknown_model(name, sorted({*timm.list_models(), *KNOWN}))


def counted(request: Request) -> Count:
    check_registered(request.model)
    options = {OPTIONS[name]: value for name, value in request.changes().items()}
    shape = (1, 3, *request.image_size)
    errors = []
    for sized in ({"img_size": request.image_size}, {}):  # convolutional models take no img_size
        for device in ("meta", "cpu"):
            try:
                return count(create(Build(request.model, {**options, **sized}, shape), device), shape)
            except (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError) as error:
                errors.append(error)
    side = "×".join(map(str, request.image_size))
    words = str(errors[0] if not isinstance(errors[0], TypeError) else errors[-1])
    for name, option in OPTIONS.items():
        if f"unexpected keyword argument '{option}'" in words:
            raise BadInput(f"{request.model} takes no --{name.replace('_', '-')}")
    raise BadInput(f"{request.model} cannot be counted at {side}: {' '.join(words.split())}")


def rows(request: Request) -> list[dict[str, Any]]:
    """The whole model, its parts, and each block of them: FLOPs of one image and the share of the whole."""
    found = counted(request)
    shown = {name: flops for name, flops in found.modules.items() if name.count(".") < 2}
    return [
        {"module": name or "(all)", "flops": flops, "share_percent": 100 * flops / found.total}
        for name, flops in shown.items()
        if flops
    ]


def text(request: Request, table: list[dict[str, Any]]) -> str:
    from analysis.complexity import frame
    from analysis.formats import render

    side, total = "×".join(map(str, request.image_size)), table[0]["flops"]
    one, every = total / 1e9, request.batch * total / 1e9
    head = f"{request.model} at {side}: {one:.4f} GFLOPs for an image, {every:.4f} for a batch of {request.batch}"
    return f"{head}, counted by fvcore with attention included\n\n{render(frame(table), digits=4)}"
