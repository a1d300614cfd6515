"""Contour correction: `usrl/ContourCorrect-v0`."""
