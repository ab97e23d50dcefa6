"""What a node does for a job: `quarry batch` over one shard."""

import json
import os
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from child import bound
from store import write_whole


@dataclass
class Work:
    job: str  # by which its journals are found again
    number: int
    text: bytes
    seed: int  # of its first request
    program: str
    slab: str | None
    arguments: list[str]
    folder: str | None  # where journals are; by default in the node's place for temporary files


class ShardError(Exception):
    pass


def answer(work: Work) -> tuple[bytes, str]:
    """The answers, and the digest of the model that gave them.

    `quarry batch` keeps answers in a journal. Whoever does this shard again after it was killed goes on
    with that: on the same node, or on any if all see the folder.
    """
    parent = Path(work.folder or tempfile.gettempdir()) / f"quarry-batch-{work.job}"
    parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    if parent.stat().st_uid != os.getuid():
        raise ShardError(f"{parent} is another user's")
    requests = parent / f"{work.number:06}.requests.jsonl"
    answers = parent / f"{work.number:06}.answers.jsonl"
    write_whole(requests, [work.text])
    model = [] if work.slab is None else ["--model", work.slab]
    run(work, [
        "batch", str(requests), "--output", str(answers), *model, "--seed", str(work.seed), "--force",
        *work.arguments])
    result = answers.read_bytes()
    for file in (requests, answers):
        file.unlink()
    try:
        parent.rmdir()  # for the last of the node's shards
    except OSError:
        pass
    return result, digest(work)


def digest(work: Work) -> str:
    if work.slab is None:
        return "Pebble"
    about = json.loads(run(work, ["inspect", "--json", work.slab]))
    return about["summary"]["root_digest"]


def run(work: Work, arguments: list[str]) -> str:
    done = subprocess.run(bound([work.program, *arguments]), capture_output=True, text=True)
    if done.returncode != 0:
        words = done.stderr.strip().splitlines()[-5:]
        raise ShardError(
            f"shard {work.number} on {os.uname().nodename}: {work.program} {arguments[0]} ended with "
            f"{done.returncode}: " + "\n".join(words))
    return done.stdout
