"""Simulated bodies: volumes of tissue that a probe can look into from the skin."""
