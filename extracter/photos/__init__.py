"""Photographs as files: reading any common kind, colour, alpha, metadata, and writing results whole or not at all."""
