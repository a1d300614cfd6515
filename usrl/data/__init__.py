"""Datasets, splits and banks."""
