"""Video: STViT on Video Swin beside the paper's Table 6, and the same models, small, trained on moving scenes."""
