"""Reinforcement-learning environments for ultrasound segmentation.

Importing the package registers its environments with Gymnasium.
"""

from usrl.registry import register_environments

__version__ = "0.1.0"

register_environments()
