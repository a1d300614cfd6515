"""Supervised and classical segmenters."""
