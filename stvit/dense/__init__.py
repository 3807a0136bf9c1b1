"""Dense tasks on the maps of any backbone that timm knows: segmentation with UperNet, detection with a cascade.

    python -m stvit.train --task segment --data scenes --model micro_stvit_r_swin
    model = stvit.dense.load("runs/train/model")

Heads come from transformers and torchvision; what they need is the extra ``stvit[dense]``. ``stvit.dense(model)``,
the plain model that a sparsified one came from, keeps its name: the package can be called too.
"""

import sys
from types import ModuleType

from stvit.dense.extra import INSTALL, require
from stvit.dense.saved import load, save

__all__ = ["INSTALL", "load", "require", "save"]


class _Package(ModuleType):
    def __call__(self, model):
        """See ``stvit.sparsify.dense``."""
        from stvit.sparsify import dense

        return dense(model)


# Python binds a package to its name in the parent when it is imported, where the function stood before.
sys.modules[__name__].__class__ = _Package
