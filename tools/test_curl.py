"""curl against a real `quarry serve`: the commands of README and help, and tools/curl_transcripts.txt."""

import os
import re
import subprocess
import tempfile
from pathlib import Path

from quarry_server import QUARRY, check, serve

ROOT = Path(__file__).resolve().parent.parent


def answer(command, address, curl_home):
    """What a shell prints for a command that was written for the default port, with the status."""
    command = command.replace("localhost:8080", address.removeprefix("http://"))
    done = subprocess.run(
        ["bash", "-c", command], env={**os.environ, "CURL_HOME": str(curl_home)},
        capture_output=True, text=True, timeout=60)
    check(done.returncode == 0, f"{command}: {done.stderr}")
    # Where the answer ends with a line feed, curl adds another one.
    return re.sub(r"\s+(\d+)$", r"\n\1", done.stdout)


def documented():
    """The curl commands of the README and of `quarry serve --help`."""
    help = subprocess.run([QUARRY, "serve", "--help"], capture_output=True, text=True, check=True)
    for name, text in ("README", (ROOT / "README.md").read_text()), ("the help", help.stdout):
        commands = re.findall(r"^ *(curl (?:.*\\\n)*.*)$", text, re.M)
        check(commands, f"commands of {name}")
        yield from commands


def transcripts():
    """Commands with their answers."""
    text = (ROOT / "tools/curl_transcripts.txt").read_text()
    for piece in text.split("\n$ ")[1:]:
        command, _, expected = piece.partition("\n")
        yield command, expected.strip()


def main():
    if not any(os.access(Path(folder) / "curl", os.X_OK) for folder in os.get_exec_path()):
        raise SystemExit("FAILED: curl is missing; on Debian: apt-get install curl")
    with tempfile.TemporaryDirectory() as curl_home, serve() as address:
        Path(curl_home, ".curlrc").write_text('silent\nshow-error\nwrite-out = "\\n%{http_code}"\n')
        count = 0
        for count, command in enumerate(documented(), 1):
            got = answer(command, address, curl_home)
            check(got.endswith("\n200"), f"{command}: {got}")
        id = ""
        for count, (command, expected) in enumerate(transcripts(), count + 1):
            got = answer(command.replace("$ID", id), address, curl_home)
            pattern = re.escape(expected.replace("$ID", id)).replace("…", ".*")
            check(re.fullmatch(pattern, got, re.S), f"{command}:\n{got}\nexpected:\n{expected}")
            id = (re.findall(r'"id":"([^"]*)"', got) or [id])[0]
    version = subprocess.run(["curl", "--version"], capture_output=True, text=True).stdout.split()[1]
    print(f"test-clients: curl {version}: {count} commands")


main()
