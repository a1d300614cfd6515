"""Reinforcement-learning environments for ultrasound segmentation."""

__version__ = "0.1.0"
