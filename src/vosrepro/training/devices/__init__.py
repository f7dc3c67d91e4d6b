"""Devices and processes of training jobs."""
