"""Studies beyond the paper's tables: ablations, and what a reference is worth."""
