"""TrainCheck's files (OSDI'25): its invariants read and written, its traces read."""
