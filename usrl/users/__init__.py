"""Simulated users, who mark what is wrong in a segmentation."""
