"""Segmentation networks of papers, one a file. `usrl.networks.models` builds them from recipes.

Each maps images, float32, (B, C, S, S), to logits (B, 1, S, S), for any S that is large enough. Widths are
such that two cores can train them at 128 px; each docstring says how they differ from the paper. All learn
from nothing, so batch normalisation follows every convolution, even where the paper starts from a trained
VGG-16 without it.
"""
