"""A server that pretends to be a headnode: it serves the page with frames that a test has made up.

It is for what real programs do only with a thousand datanodes, or with a disk that is full.
"""

import copy
import datetime
import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

ASSETS = Path(__file__).parent.parent / "assets"
KINDS = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
POLICY = ("default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; "
          "form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'")
PERIOD_MS = 200


def now():
    return datetime.datetime.now(datetime.timezone.utc).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def node(number, state="available", **changes):
    """A datanode as a frame shows it."""
    return {"name": f"datanode{number}", "state": state, "address": f"127.0.0.1:{5010 + number % 1000}", "round": 1, "attempt": 1, "rtt_us": 400, "age_ms": 500,
            "records": 40, "lost": 0, "free": 50_000_000_000, "confirmed": 0, "p50_us": 300, "p99_us": 900, "sync_p50_us": 200, "sync_p99_us": 700, **changes}


def frame(nodes, **changes):
    """A frame with these datanodes."""
    operative = sum(node["state"] != "not-operative" for node in nodes)
    made = {"kind": "store", "run": "PRETENDED", "up_s": 100, "period_ms": PERIOD_MS, "verdict": {"level": "ok", "code": "saving"}, "expected": len(nodes),
            "replicas": 1, "known": len(nodes), "operative": operative, "available": sum(node["state"] == "available" for node in nodes), "interval_ms": 5000,
            "round": {"n": 1, "attempts": 1, "age_ms": 100}, "messages": 100, "registered_at_start": 100, "puts": {"ok": 0, "failed": 0}, "nodes": nodes,
            "events": {"last": 0, "new": []}, "recent": {"last": 0, "new": []}, "warnings": [], "files": ["hearbeat_server.txt"]}
    return {**made, **changes}


class Pretender(ThreadingHTTPServer):
    """Serves `frame`, again and again, with the present time. It ends with the block of `with`."""

    daemon_threads = True

    def __init__(self, first):
        super().__init__(("127.0.0.1", 0), Handler)
        self.frame, self.number, self.ending = first, 0, False
        # So many pages are told that too many are open.
        self.refusals = 0
        # What /api/NAME answers: an object, or a function that returns one.
        self.answers = {}
        self.address = f"http://127.0.0.1:{self.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.serve_forever, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.ending = True
        self.shutdown()
        self.server_close()

    def next(self):
        self.number += 1
        self.before_frame()
        return {**copy.deepcopy(self.frame), "n": self.number, "time": now()}

    def before_frame(self):
        """Called before each frame. A test may replace it."""


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        path = self.path.partition("?")[0]
        asset = ASSETS / (path[1:] or "index.html")
        if path == "/events" and self.server.refusals > 0:
            self.server.refusals -= 1
            self.answer("text/plain", b"too many pages are open", 503)
        elif path == "/events":
            self.send_events()
        elif path.startswith("/api/"):
            name = path.removeprefix("/api/")
            empty = {"run": self.server.frame["run"], "events": [], "recent": [], "step_s": 5, "series": {}, "nodes": {}}
            answer = self.server.answers.get(self.path, None if name == "node" else empty)
            answer = answer() if callable(answer) else answer
            self.answer("application/json", json.dumps(answer).encode(), 200 if answer else 404)
        elif asset.parent == ASSETS and asset.is_file():
            self.answer(KINDS[asset.suffix], asset.read_bytes())
        else:
            self.answer("text/plain", b"", 404)

    def answer(self, kind, content, status=200):
        self.send_response(status)
        headers = {"Content-Type": f"{kind}; charset=utf-8", "Content-Length": str(len(content)), "Content-Security-Policy": POLICY, "X-Content-Type-Options": "nosniff"}
        for name, value in headers.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(content)

    def send_events(self):
        self.close_connection = True
        self.send_response(200)
        self.send_header("Content-Type", "text/event-stream")
        self.end_headers()
        try:
            while not self.server.ending:
                frame = self.server.next()
                self.wfile.write(f"event: frame\nid: {frame['run']}:{frame['n']}\ndata: {json.dumps(frame)}\n\n".encode())
                time.sleep(PERIOD_MS / 1000)
        except OSError:
            pass  # The page is closed.
