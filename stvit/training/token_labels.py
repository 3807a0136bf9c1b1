"""Token labels: a label for each token beside the image's (LV-ViT), also where tokens are fewer.

    loss = TokenLabels(model, annotator)(forward, images, targets)

The annotator is a trained classifier of any kind: its head, read at each place of its last feature map, says
what is there. It labels the augmented images themselves, so that labels follow crops and flips. LV-ViT's
authors stored the maps of one annotator beforehand; apart from that the loss is theirs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn

from stvit.models.lvvit import LVViT
from stvit.models.reduced_vit import ReducedTokens
from stvit.record import record, unwrap


class TokenLabels:
    """The loss of a batch with token labels from an annotator.

    1. One forward; the logits of the image and of the tokens are taken from the two heads.
    2. The annotator's label map, brought to the tokens: pooled over the grid of semantic tokens, or averaged
       over the image tokens that each reduced token holds.
    3. H(image) + β · mean H(token).
    """

    def __init__(self, model: nn.Module, annotator: nn.Module, weight: float = 0.5):
        self.model, self.annotator, self.loss = unwrap(model), annotator, TokenLabelLoss(weight)
        if not isinstance(self.model, LVViT):
            raise ValueError(
                f"token labels need a model with a head for tokens, as LV-ViT has; {type(self.model).__name__} has none"
            )

    def __call__(self, forward: Callable[[Tensor], Tensor], images: Tensor, targets: Tensor) -> Tensor:
        reduced = isinstance(self.model, ReducedTokens)
        recording = record(self.model, attention=False) if reduced else nullcontext({})
        with outputs_of(self.model, "head", "aux_head") as found, recording as assignments:
            forward(images)
        labels = annotate(self.annotator, images)  # (B, K, H, W)
        grid = self.model.patch_embed.dynamic_feat_size(images.shape[-2:])
        on_grid = labels_on_grid(labels, getattr(self.model, "semantic_grid", grid))  # (B, M, K)
        if reduced and not self.model.keeps_all:
            *_, held = self.model.held(assignments).values()
            on_grid = labels_of_tokens(on_grid, held)
        return self.loss(found["head"], found["aux_head"], targets, on_grid)


@contextmanager
def outputs_of(model: nn.Module, *names: str) -> Iterator[dict[str, Tensor]]:
    """What the named layers return in forwards inside the block, with gradients."""
    found: dict[str, Tensor] = {}
    hooks = [
        getattr(model, name).register_forward_hook(lambda _, __, out, name=name: found.update({name: out}))
        for name in names
    ]
    try:
        yield found
    finally:
        for hook in hooks:
            hook.remove()


@torch.no_grad()
def annotate(annotator: nn.Module, images: Tensor) -> Tensor:
    """The annotator's class probabilities at each place of its last map: (B, K, h, w)."""
    x = annotator.forward_features(images)
    if x.ndim == 3:  # tokens (B, prefix + N, C)
        prefix = getattr(annotator, "num_prefix_tokens", 0)
        tokens = x[:, prefix:]
        side = math.isqrt(tokens.shape[1])
        if side * side != tokens.shape[1]:
            raise ValueError(f"the annotator's {tokens.shape[1]} tokens do not fill a square map")
        # each token by itself, also in the places of the prefix that the head may read
        alone = tokens.flatten(0, 1)[:, None].expand(-1, prefix + 1, -1)  # (B·N, prefix + 1, C)
        logits = annotator.forward_head(alone)
        return logits.softmax(1).unflatten(0, (len(images), side, side)).movedim(3, 1)
    last = getattr(annotator, "output_fmt", "NCHW") == "NHWC"
    maps = x if last else x.movedim(1, 3)  # (B, h, w, C)
    alone = maps.flatten(0, 2)[:, None, None] if last else maps.flatten(0, 2)[:, :, None, None]
    logits = annotator.forward_head(alone)  # (B·h·w, K)
    return logits.softmax(1).unflatten(0, maps.shape[:3]).movedim(3, 1)


class TokenLabelLoss(nn.Module):
    """H(X_cls, y_cls) + β · mean_i H(X_i, y_i), H the cross entropy with soft targets; β = 0.5 in LV-ViT.

    image, tokens = model.token_logits(images)   # (B, K), (B, M, K)
    loss = TokenLabelLoss()(image, tokens, label, token_labels)
    """

    def __init__(self, beta: float = 0.5):
        super().__init__()
        self.beta, self.entropy = beta, SoftTargetCrossEntropy()

    def forward(self, image: Tensor, tokens: Tensor, label: Tensor, token_labels: Tensor) -> Tensor:
        if tokens.shape != token_labels.shape:
            raise ValueError(
                f"{tuple(tokens.shape)} token logits and {tuple(token_labels.shape)} token labels differ; bring the "
                "labels to the tokens with labels_on_grid or labels_of_tokens"
            )
        return self.entropy(image, label) + self.beta * self.entropy(
            tokens.flatten(0, 1), token_labels.flatten(0, 1)
        )


def labels_on_grid(labels: Tensor, grid: tuple[int, int]) -> Tensor:
    """Label maps (B, K, H, W), averaged over an h × w grid of semantic tokens: (B, h·w, K)."""
    return F.adaptive_avg_pool2d(labels, grid).flatten(2).transpose(1, 2)


def labels_of_tokens(labels: Tensor, assignment: Tensor) -> Tensor:
    """Labels (B, N, K) of image tokens, averaged over what each reduced token holds: (B, M, K).

    ``assignment`` (B, M, N) is a recorded one, or several composed by ``stvit.reduce.compose``.
    """
    return assignment.to(labels.dtype) @ labels
