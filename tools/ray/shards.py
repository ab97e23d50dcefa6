"""A file of requests cut into shards, and their answers as parts of one file again."""

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Shard:
    number: int
    offset: int  # of its first byte in the file
    size: int
    first: int  # requests before it
    count: int  # requests in it


class InputError(Exception):
    pass


def cut(path: Path, count: int) -> tuple[list[Shard], str]:
    """The shards, of `count` requests each, and the SHA-256 of the file.

    What a request is, `quarry batch` says: a line with something on it. It answers two requests of one
    custom_id with an error, which it cannot do for two shards; so here they are refused before any work.
    """
    shards, seen, digest = [], {}, hashlib.sha256()
    offset = end = requests = in_shard = 0
    with path.open("rb") as file:
        for number, line in enumerate(file, 1):
            digest.update(line)
            end += len(line)
            if not line.strip(b" \t\r\n"):
                continue
            name = custom_id(line)
            if name is not None and (first := seen.setdefault(name, number)) != number:
                raise InputError(f"lines {first} and {number} have the same custom_id")
            in_shard += 1
            if in_shard == count:
                shards.append(Shard(len(shards), offset, end - offset, requests, count))
                offset, requests, in_shard = end, requests + count, 0
    if in_shard:
        shards.append(Shard(len(shards), offset, end - offset, requests, in_shard))
    return shards, digest.hexdigest()


def custom_id(line: bytes) -> str | None:
    """None of a line at fault, which gets an error for an answer."""
    try:
        request = json.loads(line)
    except ValueError:
        return None
    name = request.get("custom_id") if isinstance(request, dict) else None
    return name if isinstance(name, str) else None


def text(path: Path, shard: Shard) -> bytes:
    with path.open("rb") as file:
        file.seek(shard.offset)
        return file.read(shard.size)


def renumbered(shard: Shard, answers: bytes) -> bytes:
    """The answers with the ids that they have when one process answers the whole file."""
    lines = answers.splitlines()
    if len(lines) != shard.count:
        raise InputError(f"shard {shard.number} has {len(lines)} answers to {shard.count} requests")
    renamed = []
    for index, line in enumerate(lines, shard.first + 1):
        answer = json.loads(line)
        answer["id"] = answer["response"]["request_id"] = f"batch_req_{index}"
        renamed.append(json.dumps(answer, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(renamed).encode()

