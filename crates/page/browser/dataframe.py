#!/usr/bin/env python3
"""The page of the DataFrame's master in a real headless Chromium.

    dataframe.py target/debug [TEST…]

Needs what browser.py needs.
"""

import contextlib
import json
import subprocess
import tempfile
import unittest
import urllib.request
from pathlib import Path

from selenium.webdriver.common.keys import Keys

import pretend
from browser import PROGRAMS, PageTest
from chromium import PATIENCE, wait_for
from pretend import Pretender
from store import free_port

STATES = ["ready", "draining", "lost"]
GONE = ["silent", "unreachable", "left", "removed", "drained", "replaced"]
LOSSES = ["worker-gone", "lease-ended", "reply-broken", "given-back", "process-died", "not-taken"]
FAILURES = ["bad-job", "no-module", "widen-type", "file", "poisonous", "resources", "no-workers", "refused", "cancelled", "internal"]
EVENTS = ["took-lead", "joined", "back", "restarted", "lost", "gone", "task-lost", "submitted", "finished", "failed"]
JOBS = ["planning", "running", "finishing", "waiting", "done", "failed"]
RULES = ["no-workers", "losses", "slow", "spool-full"]
VERDICTS = ["working", "workers-lost", "no-workers", "stuck", "standby", "hangs"]
TOLD = "return document.querySelector('.told').textContent"


def worker(number, state="ready", **changes):
    """A worker as a frame shows it."""
    return {"w": number, "name": f"worker{number}", "state": state, "threads": 2, "busy": 1, "done": 40, "resident": 150_000_000, "age_ms": 300, "p50_us": 400_000, **changes}


def frame(workers, bars=(), **changes):
    """A frame with these workers and bars. Bars are [worker, job, stage, start, length, outcome]; the present is 60 s after the beginning."""
    counts = {state: sum(worker["state"] == state for worker in workers) for state in STATES}
    made = {"kind": "dataframe", "run": "PRETENDED", "up_s": 70, "lead_ms": 60_000, "period_ms": pretend.PERIOD_MS, "term": 1, "verdict": {"level": "ok", "code": "working"},
            **counts, "slots": 2 * counts["ready"], "busy": 1, "waiting": 0, "running": 1, "jobs_done": 1, "jobs_failed": 0, "tasks_done": 80, "tasks_failed": 0, "tasks_lost": 0,
            "resident": 300_000_000, "spool_memory": 0, "spool_disk": 0, "workers": workers, "jobs": [], "events": {"last": 0, "new": []}, "warnings": [],
            "tasks": {"last": len(bars), "since_ms": 0, "new": list(bars), "open": []}}
    return {**made, **changes}


def job(number, state="running", **changes):
    """A job as a frame shows it."""
    return {"j": number, "ops": ["read_csv", "groupby"], "state": state, "stage": 2, "stages": [[6, 6], [3, 8]], "ms": 2345, **changes}


class Cluster:
    """A master with a page, and workers. They end with the block of `with`."""

    def __init__(self, workers=2):
        self.opened = contextlib.ExitStack()
        self.folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
        self.master, page = f"127.0.0.1:{free_port()}", free_port()
        self.address = f"http://127.0.0.1:{page}"
        self.processes = {}
        self.start("master", "dataframe-master", "--listen", self.master, "--page", f"127.0.0.1:{page}", "--shuffle-above", "1")
        for number in range(1, workers + 1):
            self.start_worker(f"worker{number}")

    def __enter__(self):
        ready = [name for name in self.processes if name != "master"]
        wait_for("all workers", lambda: self.is_up() and self.frame()["ready"] == len(ready))
        return self

    def __exit__(self, *_):
        for process in self.processes.values():
            process.kill()
            process.wait()
        self.opened.close()

    def start(self, name, program, *flags):
        with open(self.folder / f"{name}.log", "ab") as log:
            command = [str(Path(PROGRAMS) / program), "--data-dir", str(self.folder / name), *flags]
            self.processes[name] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)

    def start_worker(self, name):
        self.start(name, "dataframe-worker", "--name", name, "--listen", "127.0.0.1:0", "--master", self.master, "--threads", "1", "--heartbeat", "200ms")

    def is_up(self):
        with contextlib.suppress(OSError):
            return self.frame()
        return None

    def frame(self):
        with urllib.request.urlopen(f"{self.address}/api/frame", timeout=PATIENCE) as answer:
            return json.load(answer)

    def job(self):
        """Begins a job that keeps a worker busy for seconds."""
        path = self.folder / "long.csv"
        path.write_text("name,x\n" + "".join(f"{'ABC'[row % 3]},{row}\n" for row in range(80_000)))
        operations = [{"read_csv": {"paths": [str(path)], "blocksize": 60_000}}, {"query": {"predicate": "length(repeat(name, 3000)) > 0"}}, {"groupby": {"by": ["name"], "agg": ["sum(x)"]}}]
        command = [str(Path(PROGRAMS) / "dataframe"), "run", "--json", json.dumps(operations), "--master", self.master]
        self.processes["job"] = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        return self.processes["job"]


class RealCluster(PageTest):
    """Against a master and workers."""

    def test_a_worker_that_is_killed_in_a_job_is_shown_as_lost_and_the_job_goes_on(self):
        with Cluster() as cluster:
            self.chromium.open(cluster.address)
            self.chromium.wait_text("#verdict-text", "2 trabajadores; ningún trabajo en curso")
            job = cluster.job()
            busy = wait_for("a busy worker", lambda: [worker["name"] for worker in cluster.frame()["workers"] if worker["busy"]])
            cluster.processes[busy[0]].kill()
            self.assertIsNone(job.poll(), "the worker was to be killed in the middle")
            # On a fast computer the job may be done before the page is looked at.
            self.chromium.wait_text("#verdict-text", "1 de 2 trabajadores; ")
            self.assertIn("se cortó la conexión", self.chromium.wait_text(f"[data-node={busy[0]}]", "perdido"))
            self.chromium.wait_text(".events-card li", f"{busy[0]} perdido: se cortó la conexión")
            output, errors = job.communicate(timeout=PATIENCE)
            self.assertEqual(job.returncode, 0, output + errors)
            self.chromium.wait_text(".jobs-card li", "hecho · etapa 2:")
            # What was counted is what is drawn.
            done = cluster.frame()["tasks_done"]
            drawn = "return document.querySelectorAll('.stream-card path[fill]').length"
            self.assertGreater(self.chromium.run(drawn), 1)
            labels = "return [...document.querySelectorAll('.stream-card svg[role=img]')].map((picture) => parseInt(picture.getAttribute('aria-label')))"
            lost = cluster.frame()["tasks_lost"]
            self.assertEqual(wait_for("all bars", lambda: sum(seen := self.chromium.run(labels)) >= done + lost and sum(seen)), done + lost)
            self.chromium.screenshot("dataframe-lost")
            cluster.start_worker(busy[0])
            self.chromium.wait_text("#verdict-text", "2 trabajadores; ningún trabajo en curso")
            self.assert_quiet()
            self.assertEqual([url for url in self.chromium.requests() if not url.startswith(f"{cluster.address}/")], [])


class PretendedCluster(PageTest):
    """Against frames that real programs do not bring about in a test."""

    def test_every_word_of_the_server_is_known_in_both_languages(self):
        workers = [worker(number, state, cause=cause) for number, (state, cause) in enumerate([("lost", cause) for cause in GONE], 1)] + [worker(90, "draining"), worker(91)]
        causes = [*GONE, *LOSSES, *FAILURES]
        events = [{"n": number, "time": pretend.now(), "worker": "worker1", "what": EVENTS[number % len(EVENTS)], "cause": causes[number % len(causes)], "count": number} for number in range(1, 30)]
        jobs = [job(number, state, cause="file", rows=7, lost=2) for number, state in enumerate(JOBS, 1)]
        warnings = [{"rule": rule, "worker": "worker1", "value": 7} for rule in RULES]
        # A word of the server that the page does not know is shown as it is. Some of them are English words, too.
        coded = {*STATES, *causes, *EVENTS, *JOBS, *RULES, *VERDICTS}
        for language, raw in ("", coded - {"file"}), ("?lang=en", {word for word in coded if "-" in word}):
            words = [*raw, "undefined", "NaN", "{"]
            for rules in ([], warnings):
                shown = frame(workers, jobs=jobs, warnings=rules, events={"last": len(events), "new": events[-5:]})
                with Pretender(shown) as server:
                    server.answers["/api/events?since=0"] = {"run": shown["run"], "events": events}
                    self.chromium.open(f"{server.address}/{language}")
                    self.chromium.wait("all events", "return document.querySelectorAll('.events-card li').length === arguments[0]", len(events))
                    for code in VERDICTS:
                        before = self.chromium.run("return document.getElementById('view').dataset.frame")
                        server.frame["verdict"] = {"level": "bad", "code": code}
                        self.chromium.wait("that verdict", "return Number(document.getElementById('view').dataset.frame.split(':')[1]) > Number(arguments[0].split(':')[1]) + 1", before)
                        seen = self.chromium.run("return document.body.textContent")
                        self.assertEqual([word for word in words if word in seen], [], f"{code} {language}")
                    self.assert_quiet()

    def test_wide_narrow_light_and_dark(self):
        bars = [[1 + number % 3, 1, 1 + number % 4, 1000 * number, 700, 3 if number % 9 == 8 else 0] for number in range(60)]
        workers = [worker(1), worker(2), worker(3, "lost", cause="unreachable", lost=3)]
        shown = frame(workers, bars, jobs=[job(2), job(1, "failed", cause="file")], verdict={"level": "warn", "code": "workers-lost"})
        with Pretender(shown) as server:
            for language in ("", "?lang=en"):
                self.chromium.resize(1280, 800)
                self.chromium.open(f"{server.address}/{language}")
                self.chromium.wait("bars", "return document.querySelectorAll('.stream-card path[fill]').length > 9")
                self.assert_fits("wide")
                self.assertLessEqual(self.chromium.run("return document.documentElement.scrollHeight"), 800, "one screen shows all")
                self.assert_readable("wide")
                self.chromium.screenshot(f"dataframe-wide{language[6:]}")
                self.chromium.resize(360, 740)
                self.chromium.wait("a narrow page", "return innerWidth === 360")
                self.assert_fits("narrow")
                self.chromium.click("[data-node=worker3] a")
                self.chromium.wait_text(".whose", "worker3")
                self.assert_fits("narrow, one worker")
                self.chromium.screenshot(f"dataframe-narrow{language[6:]}", whole=True)
            self.chromium.resize(1280, 800)
            self.chromium.emulate("dark")
            self.chromium.screenshot("dataframe-dark")
            self.assert_quiet()

    def test_keys_choose_a_task(self):
        bars = [[1, 1, 1, 10_000, 500, 0], [2, 1, 1, 20_000, 1500, 3], [1, 1, 2, 30_000, 2500, 0]]
        with Pretender(frame([worker(1), worker(2)], bars)) as server:
            self.chromium.open(server.address)
            self.chromium.wait_text(".told", "flechas")
            self.chromium.run("document.querySelector('.stream-card .scroll').focus()")
            for key, told in ((Keys.LEFT, "worker1, trabajo 1, etapa 2, 2,5 s: hecha hace 28 s"), (Keys.LEFT, "worker1, trabajo 1, etapa 1, 500 ms: hecha"),
                              (Keys.RIGHT, "etapa 2, 2,5 s"), (Keys.DOWN, "worker2, trabajo 1, etapa 1, 1,5 s: se perdió"), (Keys.UP, "worker1")):
                self.chromium.press(key)
                self.assertIn(told, self.chromium.run(TOLD))
            self.assertFalse(self.chromium.run("return document.getElementById('replay').hidden === false"), "the arrows are the stream's")
            self.assert_quiet()

    def test_bars_that_frames_have_skipped_are_asked_for(self):
        old = [[1, 1, 1, 1000 * number, 100, 0] for number in range(30)]
        with Pretender(frame([worker(1)], old)) as server:
            server.frame["tasks"]["new"] = old[-5:]
            server.answers["/api/tasks?since=0"] = {"run": "PRETENDED", "last": 30, "tasks": old}
            self.chromium.open(server.address)
            count = "return parseInt(document.querySelector('.stream-card svg[role=img]').getAttribute('aria-label'))"
            self.chromium.wait("all bars", f"{count} === 30")
            server.frame["tasks"] = {**server.frame["tasks"], "last": 32, "new": [*old[-4:], [1, 1, 1, 40_000, 10, 0], [1, 1, 1, 41_000, 10, 0]]}
            self.chromium.wait("two more", f"{count} === 32")
            self.assertEqual(len([url for url in self.chromium.requests() if "/api/tasks" in url]), 1)
            # Another run counts from 1 again.
            server.frame.update(run="ANOTHER", tasks={"last": 1, "since_ms": 0, "new": [[1, 1, 1, 50_000, 10, 0]], "open": []})
            self.chromium.wait("the bars of the other run", f"{count} === 1")
            self.assert_quiet()


if __name__ == "__main__":
    unittest.main(verbosity=2)
