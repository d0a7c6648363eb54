"""The checkpoint service: persist a training job's whole state, as often as every step."""
