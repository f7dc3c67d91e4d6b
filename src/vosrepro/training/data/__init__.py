"""Samples: clips and images, augmented, in a fixed order."""
