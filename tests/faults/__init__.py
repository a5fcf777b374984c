"""Fault stories; a package because it has a conftest.py of its own."""
