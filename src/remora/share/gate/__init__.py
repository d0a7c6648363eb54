"""The executor of a device that does not preempt: a gate, across processes."""
