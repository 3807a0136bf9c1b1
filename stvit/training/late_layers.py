"""The layers of a sparsified model that learn from its dense teacher: those from the first one that it changed on.

late = LateLayers(student, done=4)     # layers 5 and following; the others stay the teacher's, and stay as they are
late(tokens)                           # (B, prefix + n, C) after layer 4 → (B, C), the class feature
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from stvit.models.recovered_vit import RecoveredTokens
from stvit.training.adapters import add_adapters
from stvit.training.taught import feature_of, map_of

EMBEDDING = ("patch_embed.", "cls_token", "reg_token", "dist_token", "pos_embed", "norm_pre.")
HEADS = ("head.", "head_dist.", "aux_head.")


class LateLayers(nn.Module):
    """A student as a function of its teacher's tokens, or of images where ``done`` is 0.

    adapters: rank of the matrices that learn in place of the linear layers' weights (see ``adapters.py``); 0: none
    maps: give the image tokens behind the class feature too, (B, 1 + N, C) of a student that has all N at the end
    """

    def __init__(
        self,
        student: nn.Module,
        done: int,
        grid: tuple[int, int],
        full: bool = False,
        adapters: int = 0,
        maps: bool = False,
    ):
        super().__init__()
        self.student, self.done, self.grid, self.maps = student, done, grid, maps
        if adapters:
            learns_with = add_adapters(student, adapters, done)
        for name, parameter in student.named_parameters():
            learns = not name.startswith(HEADS) and (full or not is_base(name, done))
            parameter.requires_grad_(learns and (not adapters or learns_with(name, parameter)))

    def forward(self, inputs: Tensor) -> Tensor:
        student = self.student
        if self.done == 0:
            last = student.forward_features(inputs)
        else:
            last = student.normed(student.forward_from(inputs, self.grid, self.done))
        feature = feature_of(student, last)
        return torch.cat([feature[:, None], map_of(student, last)], dim=1) if self.maps else feature

    def set_keep_rate(self, keep_rate: float) -> None:
        self.student.set_keep_rate(keep_rate)

    def train(self, mode: bool = True) -> LateLayers:
        """Layers that do not learn stay in evaluation mode."""
        super().train(mode)
        if self.done and hasattr(self.student, "blocks"):
            for block in self.student.blocks[: self.done]:
                block.eval()
        return self

    @torch.jit.ignore
    def no_weight_decay(self) -> set[str]:
        own = getattr(self.student, "no_weight_decay", set)()
        return {f"student.{name}" for name in own}


def is_base(name: str, done: int) -> bool:
    """Is this a parameter of the embedding or of one of the first ``done`` layers?"""
    if done == 0:
        return name.startswith(EMBEDDING)
    parts = name.split(".")
    return name.startswith(EMBEDDING) or (parts[0] == "blocks" and int(parts[1]) < done)


def layers_kept(student: nn.Module, full: bool = False) -> int:
    """How many first layers need not be computed again: those that the student has in common with its teacher."""
    return 0 if full else int(getattr(student, "unchanged_layers", 0))


def gives_maps(student: nn.Module) -> bool:
    """Has the student a token for each place of the image at its end?"""
    return isinstance(student, RecoveredTokens)


def check_fit(student: nn.Module, teacher: nn.Module, done: int) -> None:
    """ValueError where the student cannot learn from this teacher."""
    own, theirs = student.num_features, teacher.num_features
    if own != theirs:
        raise ValueError(
            f"the student's class feature has {own} numbers and the teacher's {theirs}: make the student from the "
            "teacher, with stvit.sparsify(teacher, …)"
        )
    known, said = (
        dict(teacher.named_parameters()),
        "a frozen base must be the teacher's: make the student with ",
    )
    for name, value in student.named_parameters():
        if done and is_base(name, done) and (name not in known or not same(value, known[name])):
            raise ValueError(
                f"student and teacher differ in {name}; {said}stvit.sparsify(teacher, …), or let all layers learn "
                "(full)"
            )


def same(one: Tensor, two: Tensor) -> bool:
    return one.shape == two.shape and torch.equal(one.detach().cpu(), two.detach().cpu())
