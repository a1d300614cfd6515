"""One file a data set: its layout on disk, its licence, its faults and how it is read."""
