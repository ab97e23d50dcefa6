"""Many good and bad clients at one `quarry serve`, and what they leave behind; see tools/load-test."""

import asyncio
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from load_clients import Failed, Load, answer, chat, streamed
from quarry_server import check, eventually, metric, running

SECONDS = float(sys.argv[2])
# 200 that stream, and some that do not.
CLIENTS = {"read": 130, "read_slowly": 40, "leave": 30, "predict": 15, "misbehave": 6,
           "flood": 4, "stop_half_way": 5}
SEEDS = 12
# What the process may hold in the last quarter of the time over what it held in the quarter before, by
# when every kind of client has been there many times, the KV cache is full and the allocator has its
# arenas. Thousands of requests lie between: a KiB or two left of each would be seen. The largest bodies come
# in the first half only, since what they do to the arenas, by leaps, would hide what others leave;
# a thousand of them that were not given back could not be overlooked.
GROWTH = 4 << 20
LIMIT = 512 << 20


class Process:
    """What the system says of a process."""

    def __init__(self, pid):
        self.folder = Path("/proc", str(pid))

    def memory(self):
        """Bytes of memory, pages of files left out: those are the weights, which the system takes back."""
        return self.field("RssAnon") << 10

    def field(self, name):
        lines = (self.folder / "status").read_text().splitlines()
        return int(next(line.split()[1] for line in lines if line.startswith(name + ":")))

    def descriptors(self):
        return len(os.listdir(self.folder / "fd"))


def mebibytes(size):
    return f"{size / (1 << 20):.1f} MiB"


async def texts(port):
    """What each seed says, nobody else being there."""
    result = []
    for seed in range(SEEDS):
        status, body = await answer(port, chat(seed))
        check(status == 200, f"a chat: {status} {body}")
        result.append(streamed(body))
    return result


async def run(load, process):
    """The clients, for the time given: memory at each second, and the most descriptors."""
    halfway, stopped = asyncio.Event(), asyncio.Event()
    kinds = [kind for kind, count in CLIENTS.items() for _ in range(count)]
    tasks = [
        asyncio.create_task(load.client(number, kind, halfway if kind == "flood" else stopped))
        for number, kind in enumerate(kinds)]
    memory, descriptors, start = [], 0, time.monotonic()
    while (passed := time.monotonic() - start) < SECONDS:
        if passed > SECONDS / 2:
            halfway.set()
        await asyncio.wait(tasks, timeout=1, return_when=asyncio.FIRST_EXCEPTION)
        memory.append(process.memory())
        descriptors = max(descriptors, process.descriptors())
        if any(task.done() and task.exception() for task in tasks):
            break
    stopped.set()
    await asyncio.gather(*tasks)
    return memory, descriptors


def main():
    with tempfile.TemporaryDirectory() as data, running(
            "--slots", "8", "--max-queue", "250", "--context", "1024", "--data", data
    ) as (server, address):
        port, process = int(address.rsplit(":", 1)[1]), Process(server.pid)
        before = asyncio.run(texts(port))
        start, open_before = process.memory(), process.descriptors()
        load = Load(port, before)
        try:
            memory, most = asyncio.run(run(load, process))
        except Failed as error:
            raise SystemExit(f"FAILED: {error}; until then {dict(load.done)}") from error
        eventually(lambda: metric(address, "quarry_sequences_running") == 0, "nothing runs any more")
        check(metric(address, "quarry_sequences_waiting") == 0, "nothing waits any more")
        check(all(load.done[kind] for kind in CLIENTS), f"clients of all kinds: {load.done}")
        eventually(lambda: process.descriptors() <= open_before,
                   f"{process.descriptors()} descriptors are open, {open_before} were before")
        check(asyncio.run(texts(port)) == before, "the same texts as before")

        peak = process.field("VmHWM") << 10
        quarter = len(memory) // 4
        third = statistics.median(memory[-2 * quarter:-quarter])
        last = statistics.median(memory[-quarter:])
        tokens = metric(address, "quarry_generated_tokens_total")
        print(
            f"load-test: {sum(CLIENTS.values())} clients for {SECONDS:.0f} s: "
            + ", ".join(f"{load.done[kind]} {kind}" for kind in CLIENTS)
            + f"; {tokens / SECONDS:.0f} tokens/s\nmemory: {mebibytes(start)} before, "
            f"{mebibytes(third)} in the third quarter, {mebibytes(last)} in the last, "
            f"{mebibytes(process.memory())} after; with pages of files {mebibytes(peak)} at most\n"
            f"descriptors: {open_before} before, {most} at most, {process.descriptors()} after\n"
            "texts: the same as before, during and after")
        check(last - third <= GROWTH, f"memory grew by {mebibytes(last - third)}")
        check(max(memory) <= LIMIT, f"{mebibytes(max(memory))} of memory")


main()
