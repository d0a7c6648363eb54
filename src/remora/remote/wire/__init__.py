"""Messages and tensors between two processes: bounded, in order, counted, never unpickled."""
