"""Postgres and Valkey without an installation: the servers of `make up` and of the tests."""
