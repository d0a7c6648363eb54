"""Checkpointing inside a framework's own training loop: transformers, Lightning, accelerate."""
