"""The report of a run: one HTML file made from its journal, and the same page served live."""
