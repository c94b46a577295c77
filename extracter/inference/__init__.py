"""Enlarge photographs of any size and format within a memory limit."""
