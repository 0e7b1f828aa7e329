"""A store of real programs on free ports, which tests kill and start again one by one."""

import contextlib
import json
import random
import signal
import socket
import subprocess
import tempfile
import urllib.error
import urllib.request
from pathlib import Path

from chromium import PATIENCE, wait_for


def free_port():
    """A port below those that the system gives to connections, so that it stays free while its program is down."""
    while True:
        port = random.randrange(12_000, 32_000)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


class Store:
    """A headnode with a page, and its datanodes. They end with the block of `with`."""

    def __init__(self, programs, datanodes=3, flags=("--page-messages",)):
        self.programs, self.flags = Path(programs), flags
        self.opened = contextlib.ExitStack()
        self.folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
        # Members share the group's port. That of this socket is nobody else's.
        reserved = self.opened.enter_context(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
        reserved.bind(("0.0.0.0", 0))
        reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        port = reserved.getsockname()[1]
        self.group = f"239.255.{port >> 8}.{port & 255}:{port}"
        self.port, self.page_port = free_port(), free_port()
        self.address = f"http://127.0.0.1:{self.page_port}"
        self.expected = datanodes
        self.processes = {}
        self.puts = 0

    def __enter__(self):
        try:
            for number in range(1, self.expected + 1):
                self.start_datanode(number)
            self.start_headnode()
            wait_for("all datanodes", lambda: self.status()["available"] == self.expected)
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.opened.close()

    def start(self, name, program, *flags):
        with open(self.folder / f"{name}.log", "ab") as log:
            command = [str(self.programs / program), "--interface", "127.0.0.1", "--group", self.group, "--data-dir", str(self.folder / name), *flags]
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_datanode(self, number):
        self.start(f"datanode{number}", "datanode", "--name", f"datanode{number}", "--listen", "127.0.0.1:0")

    def start_headnode(self):
        self.start("headnode", "headnode", "--listen", f"127.0.0.1:{self.port}", "--page", f"127.0.0.1:{self.page_port}", "--expected", str(self.expected), *self.flags)
        wait_for(f"the page at {self.address}: see {self.folder}/headnode.log", self.is_up)

    def is_up(self):
        if self.processes["headnode"].poll() is not None:
            raise AssertionError("headnode has ended: " + (self.folder / "headnode.log").read_text()[-2000:])
        try:
            return self.fetch("/livez") is not None
        except urllib.error.URLError:
            return False

    def fetch(self, path):
        with urllib.request.urlopen(self.address + path, timeout=PATIENCE) as answer:
            return answer.read().decode()

    def kill(self, name):
        """Ends a program at once, as `kill -9` does."""
        self.processes[name].kill()
        self.processes[name].wait()

    def freeze(self, name):
        self.processes[name].send_signal(signal.SIGSTOP)

    def thaw(self, name):
        self.processes[name].send_signal(signal.SIGCONT)

    def ask(self, *requests):
        """Sends the requests all at once, and returns the replies."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as connection, connection.makefile("rw") as lines:
            lines.write("".join(json.dumps(request) + "\n" for request in requests))
            lines.flush()
            return [json.loads(lines.readline()) for _ in requests]

    def status(self):
        with contextlib.suppress(OSError):
            return self.ask({"status": {}})[0]["status"]
        return {"available": 0}

    def put(self, *messages):
        """Stores the messages one after the other, and returns their ids."""
        return [id for message in messages for id in self.put_at_once(message)]

    def put_at_once(self, *messages):
        """Stores the messages in any order, and returns their ids."""
        replies = self.ask(*({"put": {"message": message}} for message in messages))
        self.puts += len(messages)
        return [reply["saved"]["id"] for reply in replies]
