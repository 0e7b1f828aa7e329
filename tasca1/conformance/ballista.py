"""A cluster of Ballista for one run, and the cases that `--engine ballista` refuses. ../README.md names them too."""

import contextlib
import sys
import tempfile
from pathlib import Path

from brokers import free_ports, running

# A run of all cases takes one of so many on Ballista, among which is each operation.
SOME = 10


def refusal(case):
    """The words with which a case is refused that is computed elsewhere; None if it gives the same rows."""
    return "is compressed, which a plan for another engine cannot say" if ".csv.gz" in str(case.operations) else None


def flags(programs, opened, all_cases):
    """The flags for a cluster, which ends with `opened`, and those for a scheduler inside the program; one of how many cases each runs."""
    url = opened.enter_context(cluster(Path(programs) / "ballista_node", all_cases))
    one_of = SOME if all_cases else 1
    return [(f"--engine ballista {url}", one_of), ("--engine ballista standalone", one_of)]


@contextlib.contextmanager
def cluster(node, all_cases):
    """The URL of a scheduler with two executors. A run of all cases fails if one of the two has got no task."""
    port, *ports = free_ports(5)
    with tempfile.TemporaryDirectory(prefix="ballista-") as folder, contextlib.ExitStack() as opened:

        def start(name, own_port, *words):
            place = Path(folder) / name
            place.mkdir()
            opened.enter_context(running([node, *map(str, words)], place, own_port))

        start("scheduler", port, "scheduler", port)
        executors = [Path(folder) / f"executor-{flight}" for flight in ports[:2]]
        for executor, flight, grpc in zip(executors, ports[:2], ports[2:]):
            start(executor.name, flight, "executor", port, flight, grpc, executor / "rows")
        yield f"df://127.0.0.1:{port}"
        idle = [executor.name for executor in executors if not any((executor / "rows").glob("*/[0-9]*/*"))]
        if idle and all_cases:
            sys.exit(f"executors of Ballista that got no task: {idle}")
