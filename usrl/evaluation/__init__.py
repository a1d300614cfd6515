"""Segmenters, comparison, statistics and reports."""
