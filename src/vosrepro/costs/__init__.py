"""What a study costs: time, device hours, disk."""
