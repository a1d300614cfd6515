"""Policies, training and the SB3 face."""
