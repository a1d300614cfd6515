"""Segmentation networks: models, training, prompts, proposals."""
