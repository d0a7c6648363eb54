"""A workload that serves requests as they come, with a best-effort job beside it."""
