"""From a URL, a variable or a file to an object: the registry of plugins, the factory, the settings."""

__all__: list[str] = []
