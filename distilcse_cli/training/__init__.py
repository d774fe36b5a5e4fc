"""Stage 1: losses, memory bank, batches, schedule and the loop."""
