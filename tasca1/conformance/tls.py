#!/usr/bin/env python3
"""Real clients over TLS against a real cluster with certificates: pyarrow.flight, ADBC, Python's xmlrpc.client, and ../python/dataframe.py.

    tls.py target/debug

Makes certificates of two clusters with the program `dataframe` of that folder, starts a cluster with those of the first one, and runs
each check below. Ends with `N passed, M failed`, and with exit code 1 if a check failed.

Needs the packages of requirements.txt.
"""

import contextlib
import io
import os
import re
import ssl
import subprocess
import sys
import tempfile
import time
import xmlrpc.client
from pathlib import Path

# gRPC would write a line to the terminal for each refusal.
os.environ["GRPC_VERBOSITY"] = "NONE"

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pyarrow.flight as flight
from adbc_driver_flightsql import DatabaseOptions
from flight import DATA, README, Cluster, free_port, refused, whole

sys.path.insert(0, str(README.parent / "python"))
import dataframe as dd

ROWS = len(whole())
COUNT = f'select count(*) from "{DATA}"'


def certificates(programs, folder):
    """Makes the certificates of a cluster."""
    subprocess.run([Path(programs) / "dataframe", "certificates", "new", str(folder)], check=True)
    return Path(folder)


def shown(folder):
    """What pyarrow shows, and whom it trusts."""
    read = lambda name: (folder / name).read_bytes()
    return {"tls_root_certs": read("ca.pem"), "cert_chain": read("client.pem"), "private_key": read("client.key")}


class Setting:
    """A cluster over gRPC, which also takes calls by XML-RPC at a second master, and the certificates of two clusters."""

    def __init__(self, programs, opened):
        folder = Path(opened.enter_context(tempfile.TemporaryDirectory()))
        self.ours, self.theirs = (certificates(programs, folder / name) for name in ("ours", "theirs"))
        flags = ("--tls", str(self.ours))
        connect = lambda address: flight.FlightClient(f"grpc+tls://{address}", **shown(self.ours))
        self.grpc = opened.enter_context(Cluster(programs, flags=flags, connect=connect))
        self.port = self.grpc.address.rpartition(":")[2]
        self.xmlrpc = f"localhost:{free_port()}"
        listen = self.xmlrpc.replace("localhost", "127.0.0.1")
        xmlrpc_flags = ("--middleware", "xmlrpc", "--data-dir", str(folder / "xmlrpc"))
        self.grpc.start([str(Path(programs) / "dataframe-master"), "--listen", listen, "--page", "none", *xmlrpc_flags])
        worker = [str(Path(programs) / "dataframe-worker"), "--listen", "127.0.0.1:0", "--name", "worker1", "--master", listen]
        self.grpc.start([*worker, *xmlrpc_flags])


def readme_example(setting):
    """The example of the README for pyarrow connects, and computes."""
    example = next(code for code in re.findall(r"```python\n(.*?)```", README.read_text(), re.DOTALL) if "grpc+tls://" in code)
    code = example.replace('f"run/tls/{name}"', f'f"{setting.ours}/{{name}}"').replace("localhost:9000", f"localhost:{setting.port}")
    assert code != example
    names = {}
    exec(code, names)
    with names["client"] as client:
        info = client.get_flight_info(flight.FlightDescriptor.for_path(DATA))
        assert client.do_get(info.endpoints[0].ticket).read_all().num_rows == ROWS


def flight_without_certificate(setting):
    """pyarrow gets nothing without a certificate of the cluster."""
    unsigned = {"tls_root_certs": shown(setting.ours)["tls_root_certs"]}
    other = {**shown(setting.theirs), **unsigned}
    address = f"localhost:{setting.port}"
    for scheme, arguments in (("grpc", {}), ("grpc+tls", unsigned), ("grpc+tls", other), ("grpc+tls", shown(setting.theirs))):
        with flight.FlightClient(f"{scheme}://{address}", **arguments) as client:
            options = flight.FlightCallOptions(timeout=5)
            refused((flight.FlightUnavailableError, flight.FlightTimedOutError), "", lambda: list(client.do_action("workers", options)))


def adbc(setting):
    """ADBC connects with a certificate, and not without."""
    files = {name: value.decode() for name, value in shown(setting.ours).items()}
    trusted = {DatabaseOptions.TLS_ROOT_CERTS.value: files["tls_root_certs"]}
    options = {**trusted, DatabaseOptions.MTLS_CERT_CHAIN.value: files["cert_chain"], DatabaseOptions.MTLS_PRIVATE_KEY.value: files["private_key"]}
    address = f"grpc+tls://localhost:{setting.port}"
    with flightsql.connect(address, db_kwargs=options, autocommit=True) as connection, connection.cursor() as cursor:
        cursor.execute(COUNT)
        assert cursor.fetchone() == (ROWS,)

    def without():
        with flightsql.connect(address, db_kwargs=trusted, autocommit=True) as connection, connection.cursor() as cursor:
            cursor.execute(COUNT)

    refused(adbc_driver_manager.Error, "", without)


def the_projects_client(setting):
    """../python/dataframe.py computes over both ways with the folder of certificates, and over none of them without."""
    for address in (f"grpc://127.0.0.1:{setting.port}", f"http://{setting.xmlrpc}"):
        with dd.Client(address, tls=setting.ours):
            assert len(dd.read_csv(DATA)) == ROWS
        for folder in (None, setting.theirs):
            begun = time.monotonic()
            refused(dd.DataFrameError, "does not answer", lambda: dd.Client(address, wait=0, tls=folder).run([{"read_csv": {"paths": [DATA]}}]))
            assert time.monotonic() - begun < 60
    refused(ValueError, "dataframe certificates", lambda: dd.Client(f"http://{setting.xmlrpc}", tls="/none"))


def pythons_own_client(setting):
    """xmlrpc.client calls a method with a certificate, and compares the name of the host with that of the node."""
    context = ssl.create_default_context(cafile=setting.ours / "ca.pem")
    refused((OSError, xmlrpc.client.Error), "", lambda: methods(setting, context))
    context.load_cert_chain(setting.ours / "client.pem", setting.ours / "client.key")
    assert "compute" in methods(setting, context)


def methods(setting, context):
    """The names of the master's methods."""
    with xmlrpc.client.ServerProxy(f"https://{setting.xmlrpc}", context=context) as master:
        return master.system.listMethods()


def the_programs_client(setting):
    """The program `dataframe` computes with its certificate, and says why it does not without."""
    program = [Path(sys.argv[1]) / "dataframe", "len", DATA, "--master", f"127.0.0.1:{setting.port}", "--wait", "1s"]
    told = subprocess.run([*program, "--tls", setting.ours], capture_output=True, text=True, check=True)
    assert told.stdout.split() == ["len", str(ROWS)], told
    for flags, message in ((), "127.0.0.1"), (("--tls", setting.theirs), "no certificate of this cluster"):
        told = subprocess.run([*program, *flags], capture_output=True, text=True)
        assert told.returncode == 1 and message in told.stderr, told


CHECKS = (readme_example, flight_without_certificate, adbc, the_projects_client, pythons_own_client, the_programs_client)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    started, failures = time.monotonic(), 0
    with contextlib.ExitStack() as opened:
        setting = Setting(sys.argv[1], opened)
        for check in CHECKS:
            try:
                with contextlib.redirect_stdout(io.StringIO()):
                    check(setting)
            except Exception as error:  # whatever a client raises is a failure of the check
                failures += 1
                print(f"FAIL {check.__name__}: {type(error).__name__}: {error}", flush=True)
        assert setting.grpc.master.poll() is None, "the master has ended"
    print(f"TLS: {len(CHECKS) - failures} passed, {failures} failed, in {time.monotonic() - started:.0f} s")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
