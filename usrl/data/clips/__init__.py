"""Ultrasound clips: frames over time, as cases of episodes and as files."""
