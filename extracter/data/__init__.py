"""Test sets and training pairs: preparation, references, and what training reads."""
