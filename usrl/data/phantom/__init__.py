"""Simulated ultrasound images."""
