"""Policies, players, and the training of agents."""
