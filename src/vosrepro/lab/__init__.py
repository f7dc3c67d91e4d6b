"""Benches, parity and fuzzing; nothing imports it."""
