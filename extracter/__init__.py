"""EXTRACTER: reference-based image super-resolution (arXiv 2310.01379)."""
