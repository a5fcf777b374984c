"""The storage; a package because it has a conftest.py of its own."""
