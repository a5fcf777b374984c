"""A certificate for protocols with TLS, made where nobody names one, and trusted for one bench only."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from producer_pool.model.errors import ConfigurationError

__all__ = ["CERTIFICATE", "KEY", "make_certificate"]

CERTIFICATE: Final = "bench.pem"
KEY: Final = "bench.key"
_INSTEAD: Final = "name one: --listener-option tls-cert=FILE --listener-option tls-key=FILE"


def make_certificate(folder: Path) -> None:
    """
    Put a certificate for this machine's loopback address, and its key, into *folder*.

    Raises:
        ConfigurationError: there is no openssl to make one, or it does not.
    """
    command = [
        "openssl",
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:prime256v1",
        "-nodes",
    ]
    command += ["-days", "2", "-subj", "/CN=producer-pool bench"]
    command += ["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1,IP:::1"]
    command += ["-keyout", str(folder / KEY), "-out", str(folder / CERTIFICATE)]
    try:
        subprocess.run(command, check=True, capture_output=True, stdin=subprocess.DEVNULL, timeout=30)
    except FileNotFoundError:
        raise ConfigurationError(f"there is no openssl here to make a certificate with; {_INSTEAD}") from None
    except (subprocess.SubprocessError, OSError) as error:
        said = (getattr(error, "stderr", None) or b"").decode(errors="replace").strip().splitlines()
        why = said[-1] if said else type(error).__name__
        raise ConfigurationError(f"openssl makes no certificate ({why}); {_INSTEAD}") from None
