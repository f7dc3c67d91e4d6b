"""Files of weights: ours, and those that authors released."""
