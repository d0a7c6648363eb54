"""Remora's own costs, measured: `make bench` runs them all and writes docs/performance.md."""
