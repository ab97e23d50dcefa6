"""A Ray cluster of two nodes on this machine, for the tests."""

import os
import sys
import tempfile
import time
from contextlib import contextmanager
from pathlib import Path

# Before Ray looks: it counts nobody's runs.
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
# Workers are as urgent as what waits for them; otherwise a machine with other work starves them.
os.environ["RAY_worker_niceness"] = "0"
# Load is told every second, not every ten, so that tests of scaling are short.
for who in ("HANDLE", "REPLICA"):
    os.environ[f"RAY_SERVE_{who}_AUTOSCALING_METRIC_PUSH_INTERVAL_S"] = "1"

from ray.cluster_utils import Cluster

HERE = Path(__file__).parent
BIN = Path(sys.executable).parent
SMALL = {"num_cpus": 1, "object_store_memory": 80 << 20, "include_dashboard": False}


def check(condition, what):
    if not condition:
        raise SystemExit(f"FAILED: {what}")


def eventually(condition, what, seconds=60):
    end = time.monotonic() + seconds
    while not (value := condition()):
        check(time.monotonic() < end, what)
        time.sleep(0.1)
    return value


@contextmanager
def two_nodes():
    """The cluster, whose head is the one node, and the other node."""
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:
        # Not the place of a cluster that runs here otherwise.
        os.environ["RAY_TMPDIR"] = folder
        (Path(folder) / "ray").mkdir()
        cluster = Cluster(initialize_head=True, head_node_args=SMALL)
        try:
            yield cluster, cluster.add_node(**SMALL)
        finally:
            cluster.shutdown()


def children(program: str, command: str) -> list[int]:
    """The processes that run a command of the program, in the order in which they began."""
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            try:
                words = (entry / "cmdline").read_bytes().split(b"\0")
                if words[:2] == [program.encode(), command.encode()]:
                    found.append((entry.stat().st_ctime, int(entry.name)))
            except OSError:
                pass  # it has ended
    return [pid for _, pid in sorted(found)]


def listening(pid: int) -> str:
    """The address on which a process listens."""
    process = Path(f"/proc/{pid}")
    own = {os.readlink(file) for file in (process / "fd").iterdir()}
    for line in (process / "net/tcp").read_text().splitlines()[1:]:
        fields = line.split()
        if fields[3] == "0A" and f"socket:[{fields[9]}]" in own:
            return f"http://127.0.0.1:{int(fields[1].partition(':')[2], 16)}"
    raise SystemExit(f"FAILED: process {pid} listens nowhere")
