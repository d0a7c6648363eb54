"""Networks on graphs, stepped on the whole graph at once, in plain PyTorch."""
