"""Ablations: the variants of a recipe, trained over several seeds and compared in one table."""
