"""The studio's page in a browser: it is opened, filled in, waited for and pictured."""

import os
import time
from pathlib import Path

from sounds import wav

from vasa_jax.generation.job import DEMO

FAULTS = []  # of the page that was opened last


class Visit:
    """Pages of one test: `visit(tab)` opens one, each of a person of its own; `close` leaves them all.

    A page that is left open by a test that fails would go on with its live avatar, for which videos wait.
    """

    def __init__(self, browser, address):
        self.address, self._browser, self._contexts = address, browser, []

    def __call__(self, tab="speak", **how):
        context = self._browser.new_context(permissions=["microphone", "camera"], **how)
        self._contexts.append(context)
        page = context.new_page()
        page.set_default_timeout(90_000)
        FAULTS.clear()
        page.on("pageerror", lambda error: FAULTS.append(str(error)))
        page.on("console", lambda message: FAULTS.append(message.text) if message.type == "error" else None)
        page.on("request", lambda request: FAULTS.append(request.url) if not ours(request.url, self.address) else None)
        page.goto(f"{self.address}#{tab}")
        page.wait_for_selector("body[data-ready]")
        return page

    def close(self):
        for context in self._contexts:
            context.close()


def ours(url, address):
    return url.startswith((address, address.replace("http", "ws"), "blob:", "data:"))


def until(page, expression, seconds=60):
    """Waits until an expression is true; the page's own rules forbid what playwright's waiting does."""
    end = time.monotonic() + seconds
    while not page.evaluate(expression):
        assert time.monotonic() < end, (expression, page.text_content("#live-state"), FAULTS)
        page.wait_for_timeout(20)


def picture(page, name):
    if folder := os.environ.get("STUDIO_PICTURES"):
        page.screenshot(path=str(Path(folder) / f"{name}.png"), full_page=True)


def choose(page, panel, portrait=None, sound=None):
    page.locator(f"#{panel} input[aria-label='portrait file']").set_input_files(portrait or str(DEMO["image"]))
    page.wait_for_selector(f"#{panel} .crop div")
    if sound:
        page.locator(f"#{panel} input[aria-label='sound file']").set_input_files(sound)


def file(name, seconds):
    return {"name": name, "mimeType": "audio/wav", "buffer": wav(seconds)}


IN_VIEW = """element => {
  const { top, bottom } = element.getBoundingClientRect();
  return top >= -1 && bottom <= window.innerHeight + 1;
}"""
