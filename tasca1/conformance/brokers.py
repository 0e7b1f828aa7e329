"""What stands between the parts of a cluster for one run: the real Redis and RabbitMQ, with their files in a temporary folder and ports
of their own, and a folder as a bucket."""

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

START_SECONDS = 90


def free_ports(count):
    """Ports that nobody uses now."""
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.create_server(("127.0.0.1", 0))) for _ in range(count)]
        return [listener.getsockname()[1] for listener in sockets]


def program(*candidates):
    """The first of these programs that is installed."""
    for candidate in candidates:
        found = shutil.which(candidate)
        if found:
            return found
    sys.exit(f"{candidates[0]} is not installed: install Debian's packages redis-server and rabbitmq-server")


@contextlib.contextmanager
def running(command, folder, port, environment=None):
    """A server from when it takes connections until the end of the block. What it writes is in a file of `folder`."""
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, start_new_session=True,
                                   env={**os.environ, "HOME": str(folder), **(environment or {})})
    try:
        wait_for(process, port, folder)
        yield
    finally:
        # Its own session: what a script has started ends with it.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def wait_for(process, port, folder):
    """Waits until the server takes connections."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.1)
    sys.exit(f"{process.args[0]} does not take connections at port {port}: {(folder / 'output').read_text(errors='replace')[-2000:]}")


@contextlib.contextmanager
def redis():
    """The URL of a Redis."""
    (port,) = free_ports(1)
    with tempfile.TemporaryDirectory(prefix="redis-") as folder:
        command = [program("redis-server"), "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no", "--dir", folder]
        with running(command, Path(folder), port):
            yield f"redis://127.0.0.1:{port}"


@contextlib.contextmanager
def rabbitmq():
    """The URL of a RabbitMQ. Its user `guest` may come from this machine."""
    port, distribution, names = free_ports(3)
    with tempfile.TemporaryDirectory(prefix="rabbitmq-") as folder:
        environment = {
            "RABBITMQ_NODENAME": f"conformance-{port}@localhost", "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1", "RABBITMQ_NODE_PORT": str(port),
            "RABBITMQ_DIST_PORT": str(distribution), "ERL_EPMD_PORT": str(names), "ERL_EPMD_ADDRESS": "127.0.0.1",
            "RABBITMQ_MNESIA_BASE": folder, "RABBITMQ_LOG_BASE": folder, "RABBITMQ_LOGS": "-", "RABBITMQ_ENABLED_PLUGINS_FILE": f"{folder}/plugins",
            "RABBITMQ_CONFIG_FILE": f"{folder}/absent", "ERL_CRASH_DUMP": "/dev/null",
        }
        # The script in /usr/sbin becomes another user, who may not write in this folder.
        command = [program("/usr/lib/rabbitmq/bin/rabbitmq-server", "rabbitmq-server")]
        # Without it, the script would start one, which would outlive everything.
        directory = [program("epmd"), "-port", str(names), "-address", "127.0.0.1"]
        with running(directory, Path(folder), names), running(command, Path(folder), port, environment):
            yield f"amqp://guest:guest@127.0.0.1:{port}"


@contextlib.contextmanager
def bucket():
    """The URL of an empty bucket. The run fails if a cluster that has ended leaves an object there."""
    with tempfile.TemporaryDirectory(prefix="bucket-") as folder:
        yield f"file://{folder}"
        left = [path for path in Path(folder).rglob("*") if path.is_file()]
        if left:
            sys.exit(f"{len(left)} objects are left in the bucket: {left[:3]}")


BROKERS = {"{redis}": redis, "{rabbitmq}": rabbitmq, "{bucket}": bucket}
urls = {}


def insert(flags, opened):
    """Flags with the URLs of brokers in place of their names. Each broker is started once, and ends with `opened`."""
    for name, start in BROKERS.items():
        if name in flags:
            if name not in urls:
                urls[name] = opened.enter_context(start())
            flags = flags.replace(name, urls[name])
    return flags
