"""Segmentation metrics on binary masks."""
