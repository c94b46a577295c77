"""The training loop, one optimisation step, and the losses."""
