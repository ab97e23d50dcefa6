"""Asks `quarry serve` for what its OpenAPI documents promise, and for what they exclude; see tools/check-openapi."""

import json
import os
import sys
import tempfile
import urllib.error
import urllib.request

from schemathesis.cli import schemathesis

from quarry_server import check, eventually, metric, serve

DOCUMENTS = ["/openapi.json", "/v1/openapi.json"]
# No schema says all that makes a request a good one (a prompt that fits, an id that is that of the path),
# and what has ended cannot be cancelled.
UNFIT = "positive_data_acceptance,ensure_resource_availability"


def is_served(url):
    try:
        with urllib.request.urlopen(url) as answer:
            return bool(json.load(answer)["paths"])
    except urllib.error.HTTPError as error:
        check(error.code == 404, f"{url} is {error.code}")
        return False


def conforms(url):
    """Whether requests by the document, and some that break it, are answered as it says."""
    try:
        # The same requests each time; shown as they are, since max_tokens is taken for a secret.
        schemathesis.main([
            "run", url, "--checks", "all", "--exclude-checks", UNFIT, "--max-examples", "50",
            "--continue-on-failure", "--generation-deterministic", "--request-timeout", "20",
            "--output-sanitize", "false", "--warnings", "off", "--no-color"])
    except SystemExit as end:
        return not end.code
    return True


def main():
    # Short sequences, however many tokens a request asks for.
    with tempfile.TemporaryDirectory() as folder, serve("--context", "512") as address:
        os.chdir(folder)
        served = [path for path in DOCUMENTS if is_served(address + path)]
        check(served, "documents")
        broken = [path for path in served if not conforms(address + path)]
        check(not broken, f"answers are not those of {', '.join(broken)}")
        eventually(lambda: metric(address, "quarry_sequences_running") == 0, "nothing runs any more")
    print(f"check-openapi: {', '.join(served)}")


main()
