"""Summaries of clips."""
