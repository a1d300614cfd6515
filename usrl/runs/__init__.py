"""What a training reads and writes: recipes, run folders, checkpoints, and what weights have seen."""
