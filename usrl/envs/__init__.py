"""Environments: batched tasks and the faces that offer them."""
