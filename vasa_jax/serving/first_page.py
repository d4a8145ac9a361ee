"""The page opens by itself where a person at a screen has started the studio."""

import os
import sys
import threading
import webbrowser


def open_page(address: str) -> bool:
    """Opens an address in this machine's browser and returns True; False where nobody would see it.

    That is without a screen, over SSH, whose person sits elsewhere, and where output goes to a file or a program.
    """
    screen = sys.platform in ("darwin", "win32") or os.environ.get("DISPLAY") or os.environ.get("WAYLAND_DISPLAY")
    if not screen or "SSH_CONNECTION" in os.environ or not sys.stdout.isatty():
        return False
    threading.Thread(target=webbrowser.open, args=(address,), name="browser", daemon=True).start()
    return True
