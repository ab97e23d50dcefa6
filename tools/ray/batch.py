"""`quarry batch` over the nodes of a Ray cluster.

The file of requests is cut into shards, each node answers one after another with `quarry batch`, and the
answers come in the order of the requests, as from one machine. Those of whole shards are kept in
OUTPUT.shards until all are there: a job that was killed goes on when the same command is run again. A
shard whose node was lost is answered by another one. No custom_id may be there twice.
"""
# Plain tasks of Ray and not Ray Data, whose results live as long as a run does, or, with its checkpoints, are
# rows of files in no order that a later run has to find again; it would take no notice of the journal in
# which `quarry batch` keeps single answers, and needs pandas and Arrow.

import argparse
import hashlib
import json
import os
import sys
import time
from pathlib import Path

import ray
from ray.exceptions import RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

import shard_task
import shards
from shards import Shard
from store import Store, StoreError, write_whole

HERE = Path(__file__).resolve().parent
# Of a shard. Nodes may be lost now and then; a program that always fails is not run for ever.
ATTEMPTS = 4
# Seconds in which a node on which a shard has failed gets none.
REST = 10
# What every `quarry batch` gets from here; prompts have line numbers for ids.
OWN = ("-m", "--model", "-o", "--output", "--seed", "--force", "--restart", "--prompts")


class JobError(Exception):
    pass


class Parser(argparse.ArgumentParser):
    def error(self, message):
        self.print_usage(sys.stderr)
        self.exit(64, f"batch: {message}\n")


def options() -> argparse.Namespace:
    parser = Parser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter, epilog=(
        "What stands behind -- goes to quarry batch:\n"
        "  batch.py in.jsonl -o out.jsonl -m /models/granite.slab -- --slots 16 --context 4096"))
    add = parser.add_argument
    add("input", type=Path, help="the file of requests, as OpenAI's batches have them")
    add("-o", "--output", type=Path, required=True, help="the file of answers to write")
    add("-m", "--model", help="the slab, where every node has it (default: the bundled model Pebble)")
    add("--program", default="quarry", help="the program, where every node has it (default: quarry)")
    add("--lines", type=positive, default=100, help="requests in a shard (default: 100)")
    add("--seed", type=int, default=0, help="of requests without a seed, plus their number")
    add("--work", help="a folder that all nodes see, for journals: a shard then goes on where a lost node "
        "left it (default: each node's own place for temporary files)")
    add("--address", default="auto", help="of the cluster (default: the one that runs here)")
    add("--force", action="store_true", help="replace an existing output")
    add("--restart", action="store_true", help="discard the answers of an interrupted job")
    words = sys.argv[1:]
    end = words.index("--") if "--" in words else len(words)
    wanted = parser.parse_args(words[:end])
    wanted.arguments = words[end + 1:]
    for word in wanted.arguments:
        if word.partition("=")[0] in OWN:
            parser.error(f"{word} cannot go to quarry batch, which gets one of its own")
    return wanted


def positive(text: str) -> int:
    if (number := int(text)) < 1:
        raise ValueError
    return number


def free_nodes(busy: set[str]) -> list[str]:
    """Nodes that may work: a shard takes all cores of one."""
    return [node["NodeID"] for node in ray.nodes()
            if node["Alive"] and node["Resources"].get("CPU", 0) >= 1 and node["NodeID"] not in busy]


def answer_all(waiting: list[Shard], work_of, done) -> None:
    """Gives each node a shard at a time, and calls `done` with it, its answers and their model."""
    task = ray.remote(max_retries=0)(shard_task.answer)
    failures: dict[Shard, int] = {}
    resting: dict[str, float] = {}
    running: dict = {}
    while waiting or running:
        rest = {node for node, end in resting.items() if time.monotonic() < end}
        busy = {node for _, node in running.values()}
        for node in free_nodes(busy | rest)[:len(waiting)]:
            shard = waiting.pop(0)
            place = NodeAffinitySchedulingStrategy(node, soft=False)
            running[task.options(scheduling_strategy=place).remote(work_of(shard))] = (shard, node)
        if not running:
            time.sleep(1)
            continue
        ready, _ = ray.wait(list(running), timeout=1)
        for reference in ready:
            shard, node = running.pop(reference)
            try:
                done(shard, *ray.get(reference))
            except RayError as error:
                failures[shard] = failures.get(shard, 0) + 1
                if failures[shard] == ATTEMPTS:
                    raise JobError(f"shard {shard.number} failed {ATTEMPTS} times: {cause(error)}")
                note(f"\nagain: {cause(error)}\n")
                waiting.insert(0, shard)
                # It may be lost, which takes Ray a while to see, or end an earlier run's work.
                resting[node] = time.monotonic() + REST


def cause(error: RayError) -> str:
    return str(getattr(error, "cause", None) or error).strip().splitlines()[-1]


def note(text: str) -> None:
    print(text, end="", file=sys.stderr, flush=True)


def run(wanted: argparse.Namespace) -> None:
    if wanted.output.exists() and not wanted.force:
        raise JobError(f"{wanted.output} exists; --force replaces it")
    # Nodes have other working folders.
    slab = wanted.model and os.path.abspath(wanted.model)
    program = os.path.abspath(wanted.program) if "/" in wanted.program else wanted.program
    cut, digest = shards.cut(wanted.input, wanted.lines)
    job = {"requests": digest, "lines": wanted.lines, "seed": wanted.seed, "slab": slab,
           "arguments": wanted.arguments}
    store = Store(wanted.output, job, wanted.restart)
    name = hashlib.sha256(json.dumps(job).encode()).hexdigest()[:16]
    waiting = [shard for shard in cut if not store.has(shard.number)]
    if len(waiting) < len(cut):
        note(f"{len(cut) - len(waiting)} of {len(cut)} shards were answered by an earlier run\n")

    def work_of(shard: Shard) -> shard_task.Work:
        return shard_task.Work(
            name, shard.number, shards.text(wanted.input, shard), wanted.seed + shard.first, program,
            slab, wanted.arguments, wanted.work and os.path.abspath(wanted.work))

    def keep(shard: Shard, answers: bytes, model: str) -> None:
        store.keep(shard.number, answers, model)
        finished = sum(store.has(one.number) for one in cut)
        note(f"\ranswering: {finished} of {len(cut)} shards")

    if waiting:
        ray.init(wanted.address, runtime_env={"working_dir": str(HERE)}, logging_level="WARNING",
                 log_to_driver=False)
        answer_all(waiting, work_of, keep)
        note("\n")
    paths = [store.path(shard.number) for shard in cut]
    write_whole(
        wanted.output, (shards.renumbered(*pair) for pair in zip(cut, map(Path.read_bytes, paths))))
    store.remove()
    print(f"{wanted.output}: {sum(shard.count for shard in cut)} answers")


def main() -> None:
    wanted = options()
    try:
        run(wanted)
    except KeyboardInterrupt:
        note("\ninterrupted: the answers so far are kept; run the same command to go on\n")
        sys.exit(130)
    except (JobError, StoreError, shards.InputError, OSError) as error:
        note(f"\nbatch: {error}\n")
        sys.exit(1)


if __name__ == "__main__":
    main()
