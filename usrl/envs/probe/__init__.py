"""Probe navigation."""
