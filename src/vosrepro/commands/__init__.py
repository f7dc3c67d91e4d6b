"""One module a command: its arguments, and one call."""
