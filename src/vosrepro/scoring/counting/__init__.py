"""From masks to seven integers per object and frame."""
