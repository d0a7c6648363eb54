"""The jobs that `python -m benchmarks sharing` runs: programs that know nothing of Remora."""
