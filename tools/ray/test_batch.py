"""The job on two nodes, one of them killed under load, and itself killed; see tools/ray/test."""

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from cluster import HERE, check, children, eventually, two_nodes

PROGRAM = os.path.abspath(sys.argv[1])
SHARDS = 9


def write_requests(file: Path) -> None:
    """With and without seeds, of both kinds, one at fault, lines that do not count."""
    lines = []
    for i in range(60):
        if i % 3:
            body = {"messages": [{"role": "user", "content": f"What is rock {i}?"}], "max_tokens": 400,
                    "logit_bias": {"0": -100}, "temperature": 1}
            url = "/v1/chat/completions"
        else:
            body = {"prompt": f"Rock {i}", "max_tokens": 300, "seed": i, "logit_bias": {"0": -100}}
            url = "/v1/completions"
        lines.append(json.dumps({"custom_id": f"ü-{i}", "method": "POST", "url": url, "body": body}))
    lines[20] = "no JSON"
    lines.insert(30, " \t")
    file.write_text("\n".join(lines) + "\r\n")


def told(file: Path) -> list[dict]:
    """All of the answers but what differs from run to run: ids, times, what a prompt shared with others."""
    answers = [json.loads(line) for line in file.read_text().splitlines()]
    for answer in answers:
        for name in ("id", "created"):
            answer["response"]["body"].pop(name, None)
        answer["response"]["body"].get("usage", {}).pop("prompt_tokens_details", None)
    return answers


def start(cluster, requests: Path, output: Path, *arguments: str) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, HERE / "batch.py", requests, "-o", output, "--program", PROGRAM, "--lines", "7",
         "--work", requests.parent / "work", "--address", cluster.address, *arguments],
        stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True)


def ended(process: subprocess.Popen, status: int) -> str:
    words = process.communicate(timeout=180)[1]
    check(process.returncode == status, f"exit code {process.returncode}, not {status}: {words}")
    return words


def kept(output: Path) -> list[Path]:
    return sorted(Path(f"{output}.shards").glob("*.jsonl"))


def until_under_way(output: Path) -> None:
    """Some shards are there, and both nodes are at others."""
    eventually(lambda: len(kept(output)) >= 2 and len(children(PROGRAM, "batch")) == 2, "under way", 120)


def main():
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        requests, plain = folder / "requests.jsonl", folder / "plain.jsonl"
        write_requests(requests)
        subprocess.run([PROGRAM, "batch", requests, "-o", plain], check=True, capture_output=True)
        expected = told(plain)
        with two_nodes() as (cluster, other):
            output = folder / "node.jsonl"
            job = start(cluster, requests, output)
            until_under_way(output)
            cluster.remove_node(other, allow_graceful=False)
            check("again: " in ended(job, 0), "the shard of the node is answered again")
            check(told(output) == expected, "the answers where a node was killed")
            check(not any((folder / "work").iterdir()), "no journal is left")
            print("batch: a node killed, no line lost, none twice", flush=True)
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20)

            output = folder / "job.jsonl"
            job = start(cluster, requests, output)
            until_under_way(output)
            job.kill()
            job.wait()
            eventually(lambda: not children(PROGRAM, "batch"), "its work ends with a job")
            check(not output.exists(), "there is no output before it is whole")
            before = {file: file.stat().st_ino for file in kept(output)}
            check(2 <= len(before) < SHARDS, "it was killed in the middle")

            about = Path(f"{output}.shards/job.json")
            honest = about.read_text()
            about.write_text(json.dumps({**json.loads(honest), "model": "another"}))
            check("by the model" in ended(start(cluster, requests, output), 1), "another model")
            about.write_text(honest)
            error = ended(start(cluster, requests, output, "--seed", "1"), 1)
            check("other seed" in error, f"another job: {error}")
            words = ended(start(cluster, requests, output), 0)
            check(f"{len(before)} of {SHARDS} shards were answered" in words, f"it goes on: {words}")
            check(told(output) == expected, "the answers of a job that was killed")
            check("exists" in ended(start(cluster, requests, output), 1), "an output that is there")
            print("batch: a job killed, no line lost, none twice", flush=True)

            with requests.open("a") as file:
                file.write(requests.read_text().splitlines()[0])
            error = ended(start(cluster, requests, folder / "twice.jsonl"), 1)
            check("lines 1 and 62 have the same custom_id" in error, f"an id twice: {error}")
            eventually(lambda: not children(PROGRAM, "batch"), "nothing is left")


if __name__ == "__main__":
    main()
