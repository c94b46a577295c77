"""Measure the speed and memory of search, network and training."""
