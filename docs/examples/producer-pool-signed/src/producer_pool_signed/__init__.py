"""The signed transport of Producer Pool: a complete plugin from outside of its repository."""

from producer_pool_signed.transport import SignedClient, SignedClientOptions, SignedListener, SignedOptions

__version__ = "1.0.0"

__all__ = ["SignedClient", "SignedClientOptions", "SignedListener", "SignedOptions", "__version__"]
