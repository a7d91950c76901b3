"""How much memory the machine has."""

import os


def installed_memory() -> int | None:
    """In bytes; None where the system does not say, as Windows does not."""
    try:
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError, OSError):
        return None
