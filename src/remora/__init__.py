"""Remora rides along with PyTorch jobs that nobody changed, and shows what riding along costs."""

__version__ = "0.1.0"
