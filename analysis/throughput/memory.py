"""The most memory that a run holds at once, to the byte, beside what was there before it.

On a CPU every allocation and release that the allocator reports to torch's profiler is added up in
order: operators' own buffers are among them, which counting tensors alone would miss, and neither the
allocator's rounding nor other processes are, which resident-set sizes would add. (oneDNN's scratchpads
bypass the allocator and are not seen.) On CUDA it is the caching allocator's own maximum.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from torch import Tensor, nn


def peak_bytes(run: Callable[[], object], device: str = "cpu") -> int:
    """What ``run`` needs at its worst moment, beyond what exists before; its result is dropped."""
    gc.collect()
    return _peak_cuda(run, device) if device.startswith("cuda") else _peak_cpu(run)


def _peak_cpu(run: Callable[[], object]) -> int:
    from torch.profiler import ProfilerActivity, profile

    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as recorded:
        run()
    events = [event for event in recorded.profiler.kineto_results.events() if event.name() == "[memory]"]
    events.sort(key=lambda event: event.start_ns())
    return max(accumulate((event.nbytes() for event in events), initial=0))


def _peak_cuda(run: Callable[[], object], device: str) -> int:
    import torch

    torch.cuda.synchronize(device)
    torch.cuda.reset_peak_memory_stats(device)
    before = torch.cuda.memory_allocated(device)
    run()
    torch.cuda.synchronize(device)
    return torch.cuda.max_memory_allocated(device) - before


def tensors_of(model: nn.Module) -> Iterator[Tensor]:
    """All tensors that a model's modules hold: parameters, buffers, and what else is kept, such as packed weights."""
    from torch import Tensor

    for module in model.modules():
        for value in vars(module).values():
            inside = (
                value.values() if isinstance(value, dict) else value if isinstance(value, list) else [value]
            )
            yield from (item for item in inside if isinstance(item, Tensor))


def held_bytes(tensors: Iterable[Tensor]) -> int:
    """Bytes of the storages of ``tensors``, shared ones counted once."""
    storages = {}
    for tensor in tensors:
        if tensor.is_mkldnn:  # packed, without a storage that can be asked
            storages[id(tensor)] = tensor.numel() * tensor.element_size()
        else:
            storage = tensor.untyped_storage()
            storages[storage.data_ptr()] = storage.nbytes()
    return sum(storages.values())
