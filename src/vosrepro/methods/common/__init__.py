"""What several methods share, bit for bit."""
