"""Language models: plain PyTorch ones, and transformers' from their config classes."""
