"""Evaluate checkpoints on test sets and sweep kernel sizes."""
