"""`quarry serve` as the tests of its clients start and watch it; the program is their first argument."""

import os
import signal
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from contextlib import contextmanager
from pathlib import Path

import scripted_checkpoint

QUARRY = sys.argv[1]
TOOL = {
    "type": "function",
    "function": {
        "name": "weather",
        "description": "The weather of a place.",
        "parameters": {"type": "object", "properties": {"city": {"type": "string"}}},
    },
}
# What the scripted model answers, and the calls in it.
SCRIPT = [
    "<think>", "Rain", " or sun?", "</think>", "One moment.", "<tool_call>",
    '{"name": "weather", ', '"arguments": {"city": "Köln"}}', "</tool_call>",
    '<tool_call>{"name": "weather", "arguments": {"city": "Rome"}}</tool_call> ',
]
CALLS = [("weather", {"city": "Köln"}), ("weather", {"city": "Rome"})]


def refuse_others(event, arguments):
    """Ends the tests when a client speaks to anything but the server."""
    if event == "socket.connect" and isinstance(arguments[1], tuple):
        host = arguments[1][0]
    elif event == "socket.getaddrinfo":
        host = arguments[0]
    else:
        return
    if host not in ("127.0.0.1", "::1", "localhost", b"127.0.0.1"):
        print(f"FAILED: a client asks for {host}", file=sys.stderr)
        os._exit(1)


sys.addaudithook(refuse_others)


def check(condition, what):
    if not condition:
        raise SystemExit(f"FAILED: {what}")


def raises(kind, call, what):
    try:
        call()
    except kind as error:
        check(type(error) is kind, f"{what}: {type(error)}")
        return error
    raise SystemExit(f"FAILED: {what} raises nothing")


def eventually(condition, what):
    start = time.monotonic()
    while not condition():
        check(time.monotonic() - start < 20, what)
        time.sleep(0.01)


def start(*arguments, errors=subprocess.DEVNULL):
    """A server that is ready, and its address."""
    process = subprocess.Popen(
        [QUARRY, "serve", *arguments, "--port", "0"], stdout=subprocess.PIPE, stderr=errors,
        text=True)
    address = process.stdout.readline().strip()
    while address:
        try:
            urllib.request.urlopen(address + "/health")
            break
        except urllib.error.HTTPError as error:
            check(error.code == 503, f"/health is {error.code}")
            time.sleep(0.05)
    return process, address


@contextmanager
def running(*arguments):
    """A server that is ready, and its address; it must end well."""
    with tempfile.TemporaryFile("w+") as errors:
        process, address = start(*arguments, errors=errors)
        try:
            yield process, address
        finally:
            process.send_signal(signal.SIGTERM)
            status = process.wait()
            if status != 0:
                errors.seek(0)
                print(errors.read(), file=sys.stderr)
    check(status == 0, f"the server ended with {status}")


@contextmanager
def serve(*arguments):
    """The address of a server that is ready; it must end well."""
    with running(*arguments) as (_, address):
        yield address


@contextmanager
def scripted():
    """The address of a server whose model, local/scripted, thinks and calls tools by the script."""
    with tempfile.TemporaryDirectory() as name:
        scripted_checkpoint.write(Path(name) / "checkpoint", SCRIPT)
        slab = Path(name) / "scripted.slab"
        subprocess.run(
            [QUARRY, "convert", Path(name) / "checkpoint", "-o", slab, "--recipe", "bf16"],
            check=True, capture_output=True)
        with serve(str(slab)) as address:
            yield address


def metric(address, name):
    """A figure of all models together."""
    text = urllib.request.urlopen(address + "/metrics").read().decode()
    values = [float(line.rsplit(" ", 1)[1]) for line in text.splitlines()
              if line.startswith((name + " ", name + "{"))]
    check(values, f"the metric {name}")
    return sum(values)
