"""Journals of jobs, and their mirror in MLflow."""
