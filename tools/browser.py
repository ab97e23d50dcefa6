"""A page in headless Chromium, as the checks in this folder watch it."""

import sys
from pathlib import Path


def check(condition, what):
    """Ends this process, a check by the name of its script, unless `condition` holds."""
    if not condition:
        sys.exit(f"{Path(sys.argv[0]).stem.replace('_', '-')}: FAILED: {what}")


class Opened:
    """A page, and what it complained about and asked for, which may be nothing from elsewhere."""

    def __init__(self, browser, address, **options):
        self.context = browser.new_context(**options)
        self.page = self.context.new_page()
        self.address, self.errors, self.requests = address.split("#")[0], [], []
        self.page.on("console", lambda message: self.errors.append(message.text))
        self.page.on("pageerror", lambda error: self.errors.append(str(error)))
        self.page.on("request", lambda request: self.requests.append(request.url))
        self.page.goto(address)

    def __enter__(self):
        return self

    def __exit__(self, kind, *_):
        if kind is None:
            check(not self.errors, f"console: {self.errors}")
            foreign = [url for url in self.requests if not url.startswith((self.address, "data:"))]
            check(not foreign, f"requests to others: {foreign}")
        self.context.close()
