"""What every layer stands on: errors, tensor bytes, clock, units, files written atomically."""
