"""What is known: artifacts, the one table, checks, verdicts, deviations."""
