"""Semantic segmentation: UperNet on a backbone of timm's, scored by the conventions of ADE20K.

    model = create_segmenter("stvit_r_swin_small_patch4_window7_224", num_classes=150)
    classes = predict(model, images, scales=SCALES, flip=True).argmax(1)      # (B, H, W)

Nothing is imported here: transformers, which has the heads, is needed only where a model is built.
"""
