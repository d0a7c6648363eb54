"""Copies of committed checkpoints away from this machine, and going on from them."""
