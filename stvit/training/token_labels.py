"""Token labels: a label for each token beside the image's (LV-ViT), also where tokens are fewer."""

from __future__ import annotations

import torch.nn.functional as F
from timm.loss import SoftTargetCrossEntropy
from torch import Tensor, nn


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
