"""The report of a run: one HTML file that needs nothing else, with its figures as PDF and its tables as LaTeX."""
