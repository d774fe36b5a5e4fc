"""Measurements behind the figures in the documentation; each runs with `python -m benchmarks.NAME`."""
