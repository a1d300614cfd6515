"""Batched polygon geometry on torch tensors."""
