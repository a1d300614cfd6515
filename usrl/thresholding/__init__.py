"""Thresholds and openings of image regions: masks, their exact scores, and the best of them."""
