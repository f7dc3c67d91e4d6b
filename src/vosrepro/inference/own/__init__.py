"""A person's own clips, outside of a study."""
