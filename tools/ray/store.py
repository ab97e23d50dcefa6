"""What a job has done so far, beside its output: another run goes on behind it."""

import fcntl
import json
import os
import shutil
from collections.abc import Iterable
from pathlib import Path


def write_whole(path: Path, pieces: Iterable[bytes]) -> None:
    """Under its name only when all of it is on the disk."""
    partial = path.with_name(path.name + ".partial")
    with partial.open("wb") as file:
        for piece in pieces:
            file.write(piece)
        file.flush()
        os.fsync(file.fileno())
    partial.replace(path)
    folder = os.open(path.parent, os.O_RDONLY)
    os.fsync(folder)
    os.close(folder)


class StoreError(Exception):
    pass


class Store:
    """Answers of whole shards in OUTPUT.shards, and for which job they are."""

    def __init__(self, output: Path, job: dict, restarting: bool):
        self.folder = output.with_name(output.name + ".shards")
        self.job = {**job, "model": None}
        self.folder.mkdir(exist_ok=True)
        self.lock = (self.folder / "lock").open("w")
        try:
            fcntl.flock(self.lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise StoreError(f"{self.folder}: another process is at this job") from None
        about = self.folder / "job.json"
        if about.exists() and not restarting:
            earlier = json.loads(about.read_bytes())
            differences = [name for name in job if earlier.get(name) != job[name]]
            if differences:
                raise StoreError(
                    f"{self.folder} is of a job with other {', '.join(differences)}; finish that one, or "
                    "discard its answers with --restart")
            self.job = earlier
        else:
            for old in self.folder.glob("*.jsonl"):
                old.unlink()
            self.save()

    def save(self) -> None:
        write_whole(self.folder / "job.json", [json.dumps(self.job, indent=2).encode()])

    def path(self, number: int) -> Path:
        return self.folder / f"{number:06}.jsonl"

    def has(self, number: int) -> bool:
        return self.path(number).exists()

    def keep(self, number: int, answers: bytes, model: str) -> None:
        """Answers of two models do not go into one file, wherever a node has the other one from."""
        if self.job["model"] is None:
            self.job["model"] = model
            self.save()
        if self.job["model"] != model:
            raise StoreError(
                f"shard {number} was answered by the model {model}, earlier ones by {self.job['model']}; "
                "--restart discards those")
        write_whole(self.path(number), [answers])

    def remove(self) -> None:
        shutil.rmtree(self.folder)
