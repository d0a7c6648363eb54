"""Image models in plain PyTorch."""
