"""The data sets: where their files lie, and how they are read."""
