"""What a model of one's own costs: any timm model or checkpoint folder, sparsified if asked, built and counted.

sparse, dense = counted(Request("vit_small_patch16_224", tokens=16))
sparse, dense = counted(Request("runs/x/model", method="bat", keep_rate=0.7))
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from analysis.complexity.whatif import KNOWN, BadInput, Request, unknown_model
from analysis.shared.counting import Count, count, create
from analysis.shared.flops.readings import Build

if TYPE_CHECKING:
    from torch import nn

OPTIONS = {"tokens": "num_semantic_tokens", "depth": "depth", "stgm_at": "stgm_at", "keep_rate": "keep_rate"}
FAILURES = (AssertionError, NotImplementedError, RuntimeError, TypeError, ValueError)


def counted(request: Request) -> tuple[Count, Count | None]:
    """The cost of one image, and where the request sparsifies a model that of the model before."""
    check_registered(request.model)
    errors = []
    for device in ("meta", "cpu"):  # meta tensors cost nothing, but not every model runs on them
        try:
            return count_on(device, request)
        except BadInput:
            raise
        except FAILURES as error:
            errors.append(error)
    side = "×".join(map(str, request.image_size))
    raise BadInput(f"{request.model} cannot be counted at {side}: {' '.join(str(errors[-1]).split())}")


def count_on(device: str, request: Request) -> tuple[Count, Count | None]:
    shape = (1, 3, *request.image_size)
    choices = request.changes()
    method = choices.pop("method", None)
    if method is None:
        try:
            return count(build(request, choices, device), shape), None
        except TypeError as error:
            option = next((name for name in choices if f"argument '{OPTIONS[name]}'" in str(error)), None)
            if option is None:
                raise
            if "tokens" not in choices:
                raise BadInput(
                    f"{request.model} takes no --{option.replace('_', '-')}; name a --method"
                ) from None
        method = "stvit"
    dense = build(request, {"depth": choices.pop("depth")} if "depth" in choices else {}, device)
    return count(sparsified(dense, method, choices), shape), count(dense, shape)


def build(request: Request, choices: dict[str, Any], device: str) -> nn.Module:
    """The model at the size of the request, in evaluation mode."""
    import stvit

    if Path(request.model).exists():
        if choices:
            raise TypeError(
                "unexpected keyword argument " + ", ".join(f"'{OPTIONS[name]}'" for name in choices)
            )
        model = stvit.load_checkpoint(request.model).eval()
        if hasattr(model, "set_input_size"):
            model.set_input_size(img_size=request.image_size)
        return model.to(device)
    options, shape = {OPTIONS[name]: value for name, value in choices.items()}, (1, 3, *request.image_size)
    try:
        return create(Build(request.model, {**options, "img_size": request.image_size}, shape), device)
    except TypeError as error:
        if "img_size" not in str(error):
            raise
        return create(Build(request.model, options, shape), device)  # convolutional models take no size


def sparsified(dense: nn.Module, method: str, choices: dict[str, Any]) -> nn.Module:
    import stvit

    names = {"stgm_at": "at"}
    try:
        model = stvit.sparsify(
            dense, method=method, **{names.get(name, name): v for name, v in choices.items()}
        )
    except (TypeError, ValueError) as error:
        raise BadInput(" ".join(str(error).split())) from None
    return model.eval()


def check_registered(name: str) -> None:
    import timm

    import stvit  # noqa: F401  registers its models

    if not Path(name).exists() and not timm.is_model(name):
        raise unknown_model(name, sorted({*timm.list_models(), *KNOWN}))


def rows(found: Count) -> list[dict[str, Any]]:
    """The whole model, its parts, and each block of them: FLOPs of one image and the share of the whole."""
    shown = {name: flops for name, flops in found.modules.items() if name.count(".") < 2}
    return [
        {"module": name or "(all)", "flops": flops, "share_percent": 100 * flops / found.total}
        for name, flops in shown.items()
        if flops
    ]


def text(request: Request, found: Count, dense: Count | None) -> str:
    from analysis.complexity import frame
    from analysis.formats import render

    side, one, every = (
        "×".join(map(str, request.image_size)),
        found.total / 1e9,
        request.batch * found.total / 1e9,
    )
    changes = ", ".join(f"{name} {value}" for name, value in request.changes().items())
    head = (
        f"{request.model}{' with ' + changes if changes else ''} at {side}: {one:.4f} GFLOPs for an image, "
        f"{every:.4f} for a batch of {request.batch}, counted by fvcore with attention included"
    )
    if dense is not None:
        head += (
            f"\nwithout: {dense.total / 1e9:.4f} GFLOPs, saving {100 * (1 - found.total / dense.total):.1f} %"
        )
    return f"{head}\n\n{render(frame(rows(found)), digits=4)}"
