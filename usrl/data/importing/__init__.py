"""Makes a `folder` data set of images that were annotated with other tools."""
