"""Detection and instance segmentation: Cascade Mask R-CNN on torchvision's parts, over any timm backbone."""

from stvit.dense.detection.config import PRESETS, DetectorConfig
from stvit.dense.detection.model import CascadeMaskRCNN, create_detector

__all__ = ["PRESETS", "CascadeMaskRCNN", "DetectorConfig", "create_detector"]
