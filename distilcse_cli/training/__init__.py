"""Training: one loop, one run, and an objective for each stage."""
