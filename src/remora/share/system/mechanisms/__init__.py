"""Ways to let a best-effort job give way to a high-priority one, one file each."""
