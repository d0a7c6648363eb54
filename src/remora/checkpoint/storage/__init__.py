"""Where checkpoints lie: one small contract, so that faults can be injected and logs replayed."""
