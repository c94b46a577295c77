"""Patch search and texture transfer (section 3.2 of the paper): match query patches with reference patches exactly."""
