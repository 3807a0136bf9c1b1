"""Images to train on: procedural scenes that need no download, and ImageNet-style sources through timm."""

from stvit.data.scenes import CLASSES, SceneConfig, draw_clips, draw_scenes
from stvit.data.store import Scenes

__all__ = ["CLASSES", "SceneConfig", "Scenes", "draw_clips", "draw_scenes"]
