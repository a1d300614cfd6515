"""The demonstration: two recipes, and the steps from simulated images to a report."""
