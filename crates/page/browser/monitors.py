#!/usr/bin/env python3
"""The metrics of real programs, read by those that metrics are for: a parser of each format, promtool and Prometheus.

    monitors.py target/debug [TEST…]

Needs Debian's prometheus, and the packages of requirements.txt.
"""

import json
import subprocess
import sys
import tempfile
import unittest
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

import prometheus_client.openmetrics.parser as open_metrics
import prometheus_client.parser as classic

from chromium import wait_for
from store import Store, free_port

PROGRAMS = sys.argv.pop(1) if len(sys.argv) > 1 else "target/debug"
ASSIGNMENT = Path(__file__).resolve().parents[3] / "actividad2"
OPEN_METRICS = "application/openmetrics-text; version=1.0.0"


def metrics(store, accept="*/*"):
    request = urllib.request.Request(f"{store.address}/metrics", headers={"Accept": accept})
    with urllib.request.urlopen(request, timeout=30) as answer:
        return answer.headers["Content-Type"], answer.read().decode()


def samples(families):
    """Every sample with its labels, and its value."""
    return {(sample.name, *sorted(sample.labels.items())): sample.value for family in families for sample in family.samples}


class Monitors(unittest.TestCase):
    def setUp(self):
        self.store = self.enterContext(Store(PROGRAMS))
        for number in range(20):
            self.store.put(f"mensaje {number}")

    def test_both_formats_tell_the_same(self):
        kind, text = metrics(self.store, OPEN_METRICS)
        self.assertTrue(kind.startswith("application/openmetrics-text"), kind)
        strict = samples(open_metrics.text_string_to_metric_families(text))
        kind, text = metrics(self.store)
        self.assertTrue(kind.startswith("text/plain; version=0.0.4"), kind)
        older = samples(classic.text_string_to_metric_families(text))
        puts = ("headnode_requests_total", ("request", "put"), ("result", "ok"))
        self.assertEqual((strict[puts], older[puts]), (20, 20))
        self.assertEqual(strict.keys(), older.keys())

    def test_promtool_finds_nothing_to_mend(self):
        _, text = metrics(self.store)
        for command, given in ((["check", "metrics"], text), (["check", "rules", str(ASSIGNMENT / "alerts.yml")], ""), (["check", "config", str(ASSIGNMENT / "prometheus.yml")], "")):
            checked = subprocess.run(["promtool", *command], input=given, capture_output=True, text=True, check=False)
            self.assertEqual(checked.returncode, 0, f"{command}: {checked.stdout}{checked.stderr}")

    def test_prometheus_scrapes_and_alerts(self):
        folder = Path(self.enterContext(tempfile.TemporaryDirectory()))
        config = (ASSIGNMENT / "prometheus.yml").read_text().replace("127.0.0.1:5080", f"127.0.0.1:{self.store.page_port}")
        (folder / "prometheus.yml").write_text(config.replace("scrape_interval: 5s", "scrape_interval: 500ms\n  evaluation_interval: 500ms"))
        (folder / "alerts.yml").write_text((ASSIGNMENT / "alerts.yml").read_text().replace("for: 30s", "for: 0s"))
        address = f"127.0.0.1:{free_port()}"
        command = ["prometheus", f"--config.file={folder}/prometheus.yml", f"--storage.tsdb.path={folder}/data", f"--web.listen-address={address}"]
        prometheus = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.addCleanup(prometheus.wait)
        self.addCleanup(prometheus.kill)

        def ask(path):
            try:
                with urllib.request.urlopen(f"http://{address}/api/v1/{path}", timeout=30) as answer:
                    return json.load(answer)["data"]
            except urllib.error.URLError:
                return {}

        def value(query):
            found = ask("query?" + urllib.parse.urlencode({"query": query})).get("result", [])
            return sorted(float(sample["value"][1]) for sample in found)

        wait_for("the messages in Prometheus", lambda: value("headnode_messages") == [20])
        wait_for("three operative datanodes", lambda: value("headnode_datanode_operative") == [1, 1, 1])
        self.store.kill("datanode2")
        wait_for("the datanode that is gone", lambda: value("headnode_datanode_operative") == [0, 1, 1], 60)
        firing = lambda: {alert["labels"]["alertname"] for alert in ask("alerts").get("alerts", []) if alert["state"] == "firing"}
        wait_for("its alert", lambda: "DatanodeNotOperative" in firing(), 60)
        self.assertNotIn("StoreSavesNothing", firing())


if __name__ == "__main__":
    unittest.main(verbosity=2)
