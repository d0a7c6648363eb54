"""Checkpoints in the memory of another machine: the process that holds them, and its client."""
