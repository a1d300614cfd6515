"""Contour refinement: `usrl/ContourRefine-v0` and `usrl/ContourRefine-v1`."""
