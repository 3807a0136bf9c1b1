"""Counting the multiply-adds of a real model: by fvcore with attention included, and by torch's counter.

fvcore has no handle for ``aten::scaled_dot_product_attention`` and counts fused attention as nothing; older
versions of torch's FlopCounterMode do the same on a CPU. Here fvcore gets the handle. Models are built and
run on the meta device, where no weights and no activations exist; where that fails, on the CPU.
"""

from __future__ import annotations

import math
import multiprocessing
import os
import re
import warnings
from collections import Counter
from collections.abc import Iterable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from contextlib import ExitStack
from typing import Any, NamedTuple

import torch
from torch import nn
from torch.overrides import TorchFunctionMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils.flop_counter import FlopCounterMode

from analysis.shared.flops.readings import Build
from analysis.shared.remember import remembered

with warnings.catch_warnings():  # it scripts a loss at import, which torch deprecates
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis


class Count(NamedTuple):
    """What a model costs for one input, in multiply-adds."""

    total: int
    modules: dict[str, int]  # by module name; "" is the model, a parent holds the sum of its children
    operators: dict[str, int]
    ignored: dict[str, int]  # calls of operators that count nothing
    torch_total: int  # torch's FlopCounterMode ÷ 2: matrix products and convolutions alone

    def reductions(self) -> int:
        """What the token reductions within the blocks cost themselves."""
        inside = re.compile(r"blocks\.\d+\.reduction")
        return sum(flops for path, flops in self.modules.items() if inside.fullmatch(path))


def attention_flops(inputs: list[Any], outputs: list[Any]) -> Counter:
    """Queries by keys and weights by values: Q·K·(d_k + d_v) for each head."""
    q, k, v = (value.type().sizes() for value in inputs[:3])
    return Counter({"attention": math.prod(q[:-1]) * k[-2] * (q[-1] + v[-1])})


def sum_and_product_flops(inputs: list[Any], outputs: list[Any]) -> Counter:
    """``baddbmm(c, a, b)`` = c + a·b, which fvcore leaves out too."""
    a, b = (value.type().sizes() for value in inputs[1:3])
    return Counter({"baddbmm": math.prod(a) * b[-1]})


HANDLES = {
    "aten::scaled_dot_product_attention": attention_flops,
    "aten::baddbmm": sum_and_product_flops,
}


class _TracedConvolutions(TorchFunctionMode):
    """The tracer records only ``aten::_convolution``, which convolutions of meta tensors do not call."""

    def __torch_function__(self, func, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if func in (torch.conv1d, torch.conv2d, torch.conv3d):
            return self._convolution(*args, **kwargs)
        return func(*args, **kwargs)

    @staticmethod
    def _convolution(x, weight, bias=None, stride=1, padding=0, dilation=1, groups=1):
        if isinstance(padding, str):
            raise NotImplementedError(f"padding={padding!r} on the meta device")
        n = weight.ndim - 2
        stride, padding, dilation = (
            (v,) * n if isinstance(v, int) else v for v in (stride, padding, dilation)
        )
        settings = (stride, padding, dilation, False, (0,) * n, groups)  # not transposed, no output padding
        return torch._convolution(x, weight, bias, *settings, False, False, False, False)


class _PlainSizes(TorchDispatchMode):
    """Meta kernels written in Python want sizes that are integers, but under tracing they are tensors; the
    tracer is blind to other threads. Views stay in this thread: autograd knows them by their base."""

    def __enter__(self):
        self._thread = ThreadPoolExecutor(1)
        return super().__enter__()

    def __exit__(self, *error):
        self._thread.shutdown()
        return super().__exit__(*error)

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        def call():
            with torch.no_grad():
                return func(*args, **(kwargs or {}))

        is_view = any(value.alias_info is not None for value in func._schema.returns)
        return call() if is_view else self._thread.submit(call).result()


def count(model: nn.Module, input_shape: tuple[int, ...], handles: dict | None = None) -> Count:
    """Count ``model`` on an input of ``input_shape``, in the mode (train, eval) that its modules are in.

    ``handles`` replaces HANDLES; ``{}`` shows fvcore as it comes.
    """
    device = next(model.parameters()).device
    images = torch.zeros(input_shape, device=device)
    handles = HANDLES if handles is None else handles
    with ExitStack() as stack, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        stack.enter_context(torch.no_grad())
        if device.type == "meta":
            stack.enter_context(_PlainSizes())
            stack.enter_context(_TracedConvolutions())
        analysis = FlopCountAnalysis(model, images).set_op_handle(**handles)
        analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False)
        total = int(analysis.total())
        modules = {name: int(flops) for name, flops in analysis.by_module().items()}
        operators = {name: int(flops) for name, flops in analysis.by_operator().items()}
        ignored = dict(analysis.unsupported_ops())
    return Count(total, modules, operators, ignored, torch_count(model, images))


def torch_count(model: nn.Module, images: torch.Tensor) -> int:
    """torch's own counter, which counts 2 for a multiply-add, halved."""
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        model(images)
    return counter.get_total_flops() // 2


class TorchvisionSwin(nn.Module):
    """torchvision's Swin as a backbone: four maps, each after a norm."""

    def __init__(self, swin: nn.Module):
        super().__init__()
        self.features = swin.features
        C = swin.features[0][0].out_channels
        self.norms = nn.ModuleList(nn.LayerNorm(C * 2**i) for i in range(4))

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        maps = []
        for i, layer in enumerate(self.features):
            x = layer(x)
            if i % 2:  # stem and mergings are even, stages odd
                maps.append(self.norms[i // 2](x))
        return maps


def create(build: Build, device: str = "meta") -> nn.Module:
    """The model of ``build`` in evaluation mode; ValueError if no such model is registered."""
    import timm

    import stvit  # noqa: F401  registers its models

    with torch.device(device):
        if build.name.startswith("torchvision."):
            model = _from_torchvision(build.name.removeprefix("torchvision."), **build.options)
        elif timm.is_model(build.name):
            model = timm.create_model(build.name, **build.options)
        else:
            raise ValueError(f"model not built yet: {build.name}")
    model.eval()
    for module in model.modules():
        if build.bn_training and isinstance(module, nn.modules.batchnorm._BatchNorm):
            module.train()
    return model


def _from_torchvision(name: str, dense: bool = False, **options) -> nn.Module:
    from torchvision.models import get_model

    model = get_model(name, weights=None, **options)
    return TorchvisionSwin(model) if dense else model


class Registry:
    """Counts by ``Build``, each made once and remembered; many at a time by several processes."""

    def __init__(self, builds: Iterable[Build] = ()) -> None:
        wanted = {repr(build): build for build in builds}
        plain = [build._replace(options=dict(build.options)) for build in wanted.values()]  # can be pickled
        self._known = dict(zip(wanted, count_all(plain), strict=True))

    def count(self, build: Build) -> Count | str:
        """The count, or in words why there is none."""
        key = repr(build)
        if key not in self._known:
            self._known[key] = count_once(build)
        return self._known[key]


def count_all(builds: list[Build]) -> list[Count | str]:
    workers = min(os.cpu_count() or 1, len(builds) // 8)  # each one imports torch first
    if workers < 2:
        return [count_once(build) for build in builds]
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn"), _one_thread) as pool:
        return list(pool.map(count_once, builds))


def count_once(build: Build) -> Count | str:
    """``count_build``, or what it returned while models and versions were the same."""
    found = remembered(count_build)(build._replace(options=dict(build.options)))
    return found if isinstance(found, str) else Count(*found)


def _one_thread() -> None:
    torch.set_num_threads(1)


def count_build(build: Build) -> Count | str:
    try:
        model = create(build)
    except ValueError as error:
        return str(error)
    except TypeError as error:
        return f"{build.name} cannot be built with {build.options}: {error}"
    try:
        return count(model, build.shape)
    except (NotImplementedError, RuntimeError, TypeError):  # an operator that has no meta kernel
        return count(create(build, "cpu"), build.shape)
