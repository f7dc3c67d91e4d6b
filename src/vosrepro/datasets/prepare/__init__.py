"""From what people download to what the loaders read, checked and listed."""
