"""Test sets and training pairs: where they come from, how they are made ready."""
