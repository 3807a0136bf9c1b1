"""STViT."""
