"""Addresses of this machine alone."""


def is_loopback(host: str) -> bool:
    """Returns whether an address is this machine's own, which others cannot reach."""
    return host in ("localhost", "::1") or host.startswith("127.")
