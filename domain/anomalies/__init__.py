"""Anomalies: what an account's telemetry should be, how far it is from it, and the episodes between."""
