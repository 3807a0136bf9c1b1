"""Adapters of low rank (LoRA, by peft) on the later layers, and what is small enough to ship of such a training.

    learns = add_adapters(student, rank=16, done=4)    # the linear layers of layers 5 and following, in place
    plain = merged(student)                            # a copy with the adapters added to the weights

Beside the adapters, what the student does not have from its teacher and its vectors learn: norms, biases, layer scales.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable

from torch import nn

from stvit.extras import require

LINEAR = r"attn\.(qkv|proj)|mlp\.fc[12]"
OWN = re.compile(r"^(initial|position)\.|\.(centers|reduction|lora_[AB]|rel_pos)\.")


def add_adapters(student: nn.Module, rank: int, done: int) -> Callable[[str, nn.Parameter], bool]:
    """Put adapters into the layers after the first ``done``; returns which parameters learn beside a frozen weight."""
    require("peft", "--adapters")
    from peft import LoraConfig, inject_adapter_in_model

    layers = "|".join(str(i) for i in range(done, len(student.blocks)))
    target = rf"blocks\.({layers})\.({LINEAR})"
    inject_adapter_in_model(LoraConfig(r=rank, lora_alpha=2 * rank, target_modules=target), student)
    return lambda name, parameter: parameter.ndim == 1 or OWN.search(name) is not None


def merged(student: nn.Module) -> nn.Module:
    """A copy with plain linear layers, whose weights hold what the adapters learned."""
    plain = copy.deepcopy(student)
    found = [name for name, module in plain.named_modules() if hasattr(module, "base_layer")]
    for name in found:
        parent, _, last = name.rpartition(".")
        adapted = plain.get_submodule(name)
        adapted.merge()
        setattr(plain.get_submodule(parent), last, adapted.get_base_layer())
    return plain
