"""A reproduction study of six semi-supervised video object segmentation systems."""

__version__ = "0.1.0"
