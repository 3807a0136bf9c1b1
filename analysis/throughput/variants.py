"""What is measured: a model in a mode (eager, compiled, ...) on a workload (batch, size, task)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from analysis.throughput import memory, specs

if TYPE_CHECKING:
    import torch
    from torch import Tensor, nn

TIMED_TASKS = ("inference", "training step", "end to end")
PRECISIONS = ("float32", "bf16", "float16")
ATTENTION = ("on", "off", "default")
RUNTIMES = {"onnx": "ONNX Runtime", "openvino": "OpenVINO"}  # beside torch


class Mode(NamedTuple):
    """What is done to a model before it is measured; its outputs stay the same.

    attention: fused in every layer (on), in none (off), or as each model is built (default)
    grouped: timm's own layers, too, run on groups of images that fit the cache, as stvit's do
    runtime: what runs the exported model, one of ``RUNTIMES``; torch itself if empty
    """

    attention: str = "on"
    compiled: bool = False
    optimized: bool = False
    grouped: bool = False
    runtime: str = ""

    def __str__(self) -> str:
        words = [
            "" if self.attention == "on" else f"attention {self.attention}",
            "optimized" if self.optimized else "",
            "grouped" if self.grouped else "",
            "compiled" if self.compiled else "",
            RUNTIMES.get(self.runtime, ""),
        ]
        return ", ".join(word for word in words if word) or "eager"


ALIKE = Mode(optimized=True, grouped=True)  # what a dense model needs to have all of stvit's short cuts


class Workload(NamedTuple):
    """What models are given to do.

    size: (height, width), or (frames, height, width); dense: as backbones of four maps
    """

    size: specs.InputSize
    batch_size: int = 8
    precision: str = "float32"
    device: str = "cpu"
    task: str = "inference"
    dense: bool = False

    @property
    def frames(self) -> int:
        return self.size[0] if len(self.size) == 3 else 1

    def inputs(self) -> Tensor:
        import torch

        dtype = dtype_of(self.precision) if self.task != "training step" else torch.float32
        return torch.randn(self.batch_size, 3, *self.size).to(self.device, dtype)


class Variant(NamedTuple):
    """A model in a mode."""

    spec: str
    mode: Mode = Mode()

    def build(self, work: Workload) -> nn.Module:
        """The model, ready for ``work``; ValueError where it cannot be had in this mode."""
        import stvit

        if self.mode.runtime:
            return self.deploy(work)
        model = specs.build(self.spec, work.size, work.dense)
        set_attention(model, self.mode.attention)
        if work.task == "training step":
            if self.mode.optimized:
                raise ValueError("an optimised model is for inference alone")
            model = model.to(work.device).train()
        else:
            model = model.to(work.device, dtype_of(work.precision)).eval()
        if self.mode.optimized:
            model = stvit.optimize(model)
        if self.mode.grouped:
            group_layers(model)
        return compiled(model) if self.mode.compiled else model

    def deploy(self, work: Workload) -> nn.Module:
        """The exported model in its runtime."""
        from analysis.throughput.deployed import deployed

        plain = Workload(work.size, work.batch_size)
        if work != plain:
            raise ValueError(f"{self.mode} is timed in float32, for inference of one output on a CPU alone")
        return deployed(self.spec, work.size, self.mode.runtime)


def set_attention(model: nn.Module, attention: str) -> None:
    """Fused attention on or off in every layer that knows both."""
    if attention not in ATTENTION:
        raise ValueError(f"unknown attention {attention!r}; choose one of {', '.join(ATTENTION)}")
    for module in model.modules():
        if attention != "default" and hasattr(module, "fused_attn"):
            module.fused_attn = attention == "on"


def group_layers(model: nn.Module) -> None:
    """timm's plain layers on groups of images, so that a dense model has what stvit's models have."""
    from timm.models.swin_transformer import SwinTransformerBlock
    from timm.models.vision_transformer import Block

    from stvit.fast.groups import in_groups

    for layer in model.modules():
        if type(layer) in (Block, SwinTransformerBlock):
            layer.forward = partial(in_groups, layer.forward)


def compiled(model: nn.Module) -> nn.Module:
    """``torch.compile`` for the one shape at hand, which fails where it would give up and run eagerly."""
    import torch

    torch._dynamo.config.recompile_limit = 64  # the models of a run share the code of their layers
    torch._dynamo.config.fail_on_recompile_limit_hit = True
    return torch.compile(model, dynamic=False)


def dtype_of(precision: str) -> torch.dtype:
    import torch

    known = {"float32": torch.float32, "bf16": torch.bfloat16, "float16": torch.float16}
    if precision not in known:
        raise ValueError(f"unknown precision {precision!r}; choose one of {', '.join(PRECISIONS)}")
    return known[precision]


def check_device(device: str) -> None:
    import torch

    if device.startswith("cuda") and not torch.cuda.is_available():
        raise ValueError(f"device {device!r}: torch sees no CUDA device here; choose cpu")


def finisher(device: str) -> Callable[[], object]:
    """Waits until the device has done what it was given."""
    import torch

    return torch.cuda.synchronize if device.startswith("cuda") else lambda: None


class Feed(NamedTuple):
    """Where inputs come from: ``make`` gives a model's runner, each call of which processes ``images`` images.

    alone: the same without a model, where images have to be loaded
    """

    make: Callable[[nn.Module], Runner]
    images: int
    alone: Callable[[], object] | None = None


class Runner(NamedTuple):
    """A call does the work once and keeps nothing; ``held``: what stays allocated between calls."""

    call: Callable[[], object]
    held: Callable[[], list[Tensor]] | None = None


def make_runner(model: nn.Module, work: Workload, inputs: Tensor) -> Runner:
    """A forward in inference mode, or a whole training step."""
    from analysis.throughput.deployed import Deployed

    if work.task == "training step":
        return training_runner(model, work, inputs)

    def call() -> None:
        import torch

        with torch.inference_mode():
            model(inputs)

    if isinstance(model, Deployed):  # its memory is not torch's to count
        return Runner(call)
    return Runner(call, lambda: list(memory.tensors_of(model)))


def training_runner(model: nn.Module, work: Workload, inputs: Tensor) -> Runner:
    """Forward, loss, backward and AdamW's step; below float32 the forward is under autocast."""
    import torch

    labels = torch.arange(work.batch_size, device=work.device) % 2
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-6)
    dtype = dtype_of(work.precision)
    kind = torch.device(work.device).type

    def call() -> None:
        with torch.autocast(kind, dtype, enabled=dtype is not torch.float32):
            loss = objective(model(inputs), labels)
        loss.backward()
        optimizer.step()
        optimizer.zero_grad()

    def held() -> list[Tensor]:
        state = [value for values in optimizer.state.values() for value in values.values()]
        return [*memory.tensors_of(model), *(v for v in state if isinstance(v, torch.Tensor))]

    return Runner(call, held)


def objective(outputs, labels: Tensor) -> Tensor:
    """Cross entropy of logits; the mean square of anything else, such as a backbone's maps."""
    import torch.nn.functional as F

    if isinstance(outputs, (list, tuple)):
        return sum(objective(output, labels) for output in outputs)
    if outputs.ndim == 2:
        return F.cross_entropy(outputs.float(), labels)
    return outputs.float().square().mean()
