"""Kinds of models that can hold semantic tokens or reductions, one module each.

A host says which models it takes, dense or sparsified, and turns a copy of one into the other. A new kind is a
module here (or in ``stvit.models``) and a line in ``HOSTS``; it must not import an optional package at its top.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from timm.models.swin_transformer import SwinTransformer
from timm.models.vision_transformer import VisionTransformer
from torch import nn

from stvit.hosts.huggingface import densify_huggingface, sparsify_huggingface, takes_huggingface
from stvit.hosts.placed import densify_placed, sparsify_placed, takes_placed
from stvit.hosts.plain import densify_plain, sparsify_plain
from stvit.models.sparsified_swin import densify_swin, sparsify_swin


class Host(NamedTuple):
    """One kind of models.

    takes: whether a model, dense or sparsified, is of this kind
    sparsify: (model, tokens, at, method, **choices) → a sparsified copy, or ValueError with the reason
    densify: a sparsified model → a dense copy, or ValueError with the reason
    """

    takes: Callable[[nn.Module], bool]
    sparsify: Callable[..., nn.Module]
    densify: Callable[[nn.Module], nn.Module]


def takes_swin(model: nn.Module) -> bool:
    return isinstance(model, SwinTransformer)


def takes_plain(model: nn.Module) -> bool:
    return isinstance(model, VisionTransformer)


HOSTS = (
    Host(takes_swin, sparsify_swin, densify_swin),
    Host(takes_plain, sparsify_plain, densify_plain),
    Host(takes_huggingface, sparsify_huggingface, densify_huggingface),
    Host(takes_placed, sparsify_placed, densify_placed),
)


def find_host(model: nn.Module) -> Host | None:
    """The host of a model's kind; None where no kind is its."""
    return next((host for host in HOSTS if host.takes(model)), None)
