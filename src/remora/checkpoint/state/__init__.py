"""What a checkpoint holds: a job's parts, as named tensors and one document."""
