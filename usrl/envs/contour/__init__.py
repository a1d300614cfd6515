"""Contour refinement: `usrl/ContourRefine-v0`."""
