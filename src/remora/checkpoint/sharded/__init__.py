"""Checkpoints of several ranks: each writes its part, and one record commits them all."""
