"""Threshold selection: `usrl/ThresholdSelect-v0`."""
