"""The files of a training: recipes, run folders and checkpoints, and the images that weights have seen."""
