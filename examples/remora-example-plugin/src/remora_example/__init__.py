"""A workload and a system for Remora, from another package."""
