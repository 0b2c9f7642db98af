"""Simulated payments with labelled incidents and traps; the detectors know nothing of it."""
