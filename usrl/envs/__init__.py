"""Environments: batched tasks and the adapters that offer them."""
