"""Checkpoints of a program nobody changed, and its resumption by replay."""
