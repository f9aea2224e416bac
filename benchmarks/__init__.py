"""Measurements, as ratios to floors taken in the same run."""
