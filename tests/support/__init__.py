"""Code that several test modules share: `from support.x import ...`."""
