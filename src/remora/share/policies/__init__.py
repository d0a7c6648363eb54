"""Who runs next on a shared device: one pure core for every executor, a policy to a file."""
