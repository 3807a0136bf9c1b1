"""Dense tasks on the maps of any backbone that timm knows: segmentation with UperNet, detection with a cascade.

    python -m stvit.train --task segment --data scenes --model micro_stvit_r_swin
    model = stvit.dense.load("runs/train/model")

Heads come from transformers and torchvision; what they need is the extra ``stvit[dense]``.
"""

from stvit.dense.saved import load, save
from stvit.extras import install_line, require

INSTALL = install_line("transformers")

__all__ = ["INSTALL", "load", "require", "save"]
