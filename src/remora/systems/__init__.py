"""What is compared in an experiment: one small adapter per system, ours and its peers."""
