#!/usr/bin/env python3
"""Real clients of Arrow Flight and Flight SQL against a real cluster: pyarrow.flight, ADBC and pandas.

    flight.py target/debug

Starts dataframe-master and two workers of that folder on free ports, runs the examples of ../README.md as they stand there, and then
each check below. Ends with `N passed, M failed`, and with exit code 1 if a check failed. `conformance.py --flight` asks the whole
list of cases in this way.

Needs the packages of requirements.txt.
"""

import contextlib
import datetime
import io
import json
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from pathlib import Path

import adbc_driver_flightsql.dbapi as flightsql
import adbc_driver_manager
import pandas
import pyarrow
import pyarrow.flight as flight
from adbc_driver_manager import StatementOptions

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
DATA = str(HERE.parent / "data" / "*.csv")
SECTION = "### Arrow Flight and SQL from any tool"
START_SECONDS = 30
CALL = flight.FlightCallOptions(timeout=60)


def free_port():
    """A port that nobody listens at."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Cluster:
    """A master over gRPC and its workers, with these further flags. They end with the block of `with`."""

    def __init__(self, programs, workers=2, flags=(), connect=lambda address: flight.FlightClient(f"grpc://{address}")):
        self.address = f"127.0.0.1:{free_port()}"
        self.flags = flags
        self.client = None
        self.opened = contextlib.ExitStack()
        try:
            folder = Path(self.opened.enter_context(tempfile.TemporaryDirectory()))
            master = [str(Path(programs) / "dataframe-master"), "--listen", self.address, "--data-dir", str(folder / "master")]
            self.master = self.start(master)
            for number in range(1, workers + 1):
                worker = [str(Path(programs) / "dataframe-worker"), "--listen", "127.0.0.1:0", "--name", f"worker{number}"]
                self.start([*worker, "--master", self.address, "--data-dir", str(folder / f"worker{number}")])
            self.client = self.opened.enter_context(connect(self.address))
            self.wait_for(workers)
        except BaseException:
            self.opened.close()
            raise

    def start(self, command):
        """Starts one program, which is killed at the end."""
        process = subprocess.Popen([*command, *self.flags, "--log-level", "warn"])

        def end():
            process.kill()
            process.wait()

        self.opened.callback(end)
        return process

    def workers(self):
        """What the master says of its workers."""
        return [json.loads(result.body.to_pybytes()) for result in self.client.do_action("workers", CALL)]

    def wait_for(self, workers):
        """Waits until so many workers are ready."""
        end = time.monotonic() + START_SECONDS
        seen = None
        while time.monotonic() < end:
            with contextlib.suppress(flight.FlightUnavailableError):
                seen = self.workers()
                if len(seen) == workers:
                    return
            time.sleep(0.02)
        sys.exit(f"{workers} workers were to be ready within {START_SECONDS} s: {seen}")

    def table(self, descriptor):
        """The rows of a descriptor, as pyarrow's table."""
        info = self.client.get_flight_info(descriptor, CALL)
        table = self.client.do_get(info.endpoints[0].ticket, CALL).read_all()
        assert info.schema == table.schema, (info.schema, table.schema)
        assert info.total_records == table.num_rows, (info.total_records, table.num_rows)
        return table

    def compute(self, operations):
        """The rows of a list of operations."""
        return self.table(flight.FlightDescriptor.for_command(json.dumps(operations)))

    def connect(self):
        """A connection of ADBC."""
        return flightsql.connect(f"grpc://{self.address}", autocommit=True)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.opened.close()


def refused(kinds, message, call):
    """Checks that a call fails with an error of these kinds, and that its text has `message`."""
    try:
        call()
    except kinds as error:
        assert message in str(error), f"{message!r} is not in {error}"
        return
    raise AssertionError(f"nothing failed with {message!r}")


def whole():
    """The sample data as pandas reads it."""
    return pandas.concat([pandas.read_csv(path) for path in sorted(HERE.parent.glob("data/*.csv"))], ignore_index=True)


def readme_examples(cluster):
    """The examples of the README run as they stand there, and print what pandas computes."""
    section = README.read_text().split(SECTION)[1].split("\n### ")[0].split("\n## ")[0]
    examples = re.findall(r"```python\n(.*?)```", section, re.S)
    assert len(examples) == 3, f"{len(examples)} examples"
    means = whole().groupby("name")["x"].mean()
    for example in examples:
        code = example.replace("localhost:9000", cluster.address).replace("/data/*.csv", DATA)
        assert code.count(cluster.address) == 1 and DATA in code, code
        printed = io.StringIO()
        with contextlib.redirect_stdout(printed):
            exec(compile(code, str(README), "exec"), {})
        for name, mean in means.items():
            assert name in printed.getvalue() and str(float(mean))[:4] in printed.getvalue(), f"{name}: {mean} in\n{printed.getvalue()}"


def lists_of_operations(cluster):
    """pyarrow.flight gets the rows of a list of operations, in order."""
    table = cluster.compute([{"read_csv": {"paths": [DATA]}}, {"sort_values": {"by": ["x", "name"]}}, {"select": {"columns": ["name", "x"]}}])
    expected = whole().sort_values(["x", "name"])[["name", "x"]].reset_index(drop=True)
    pandas.testing.assert_frame_equal(table.to_pandas(), expected, check_dtype=False)


def paths(cluster):
    """A descriptor of paths is the rows of these files."""
    table = cluster.table(flight.FlightDescriptor.for_path(DATA))
    assert table.num_rows == len(whole()) and table.column_names == list(whole().columns)


def an_empty_result(cluster):
    """A result without rows has its schema."""
    table = cluster.compute([{"read_csv": {"paths": [DATA]}}, {"query": {"predicate": "x > 1e9"}}])
    assert table.num_rows == 0 and table.column_names == list(whole().columns), table


def schemas(cluster):
    """GetSchema plans and does not run."""
    descriptor = flight.FlightDescriptor.for_command(json.dumps([{"read_csv": {"paths": [DATA]}}, {"len": {}}]))
    assert cluster.client.get_schema(descriptor, CALL).schema.names == ["len"]


def an_id_of_ones_own(cluster):
    """A job that is asked for again under its id is not run again, and its ticket stays the same."""
    command = {"job": "01K9ZZZZZZ0000000000000000", "operations": [{"read_csv": {"paths": [DATA]}}, {"len": {}}]}
    descriptor = flight.FlightDescriptor.for_command(json.dumps(command))
    first, again = (cluster.client.get_flight_info(descriptor, CALL) for _ in range(2))
    assert first.endpoints[0].ticket == again.endpoints[0].ticket
    assert cluster.client.do_get(again.endpoints[0].ticket, CALL).read_all().to_pylist() == [{"len": len(whole())}]


def errors_of_jobs(cluster):
    """pyarrow shows our messages."""
    source = {"read_csv": {"paths": [DATA]}}
    refused(pyarrow.ArrowInvalid, "no column", lambda: cluster.compute([source, {"max": {"columns": ["z"]}}]))
    refused(pyarrow.ArrowInvalid, "did you mean `head`?", lambda: cluster.compute([source, {"hed": {}}]))
    refused((pyarrow.ArrowException, KeyError), "/none.csv", lambda: cluster.compute([{"read_csv": {"paths": ["/none.csv"]}}]))
    refused(pyarrow.ArrowInvalid, "no list of operations in JSON", lambda: cluster.table(flight.FlightDescriptor.for_command(b"\xff")))


def hostile_tickets(cluster):
    """Whatever a ticket holds, it is no path, and the master goes on."""
    for ticket in (b"", b"\0", b"../../etc/passwd", b"/etc/passwd", b"../master.json.............", b"x" * (1 << 20), bytes(range(256))):
        refused(pyarrow.ArrowInvalid, "no ticket of this master", lambda: cluster.client.do_get(flight.Ticket(ticket), CALL).read_all())
    forged = flight.Ticket(b"01K9ZZZZZZ0000000000000001")
    refused((pyarrow.ArrowException, KeyError), "no result for this ticket", lambda: cluster.client.do_get(forged, CALL).read_all())
    assert len(cluster.workers()) == 2


def actions(cluster):
    """The actions are listed, and run."""
    assert {action.type for action in cluster.client.list_actions(CALL)} >= {"workers", "cancel", "CreatePreparedStatement"}
    assert [worker["info"]["name"] for worker in cluster.workers()] == ["worker1", "worker2"]
    assert list(cluster.client.do_action(flight.Action("cancel", b"01K9ZZZZZZ0000000000000002"), CALL)) == []
    refused(pyarrow.ArrowInvalid, "no id of a job", lambda: list(cluster.client.do_action(flight.Action("cancel", b"../x"), CALL)))
    refused(NotImplementedError, "there is no action", lambda: list(cluster.client.do_action("drop", CALL)))
    assert list(cluster.client.list_flights(options=CALL)) == []


def a_large_result(cluster):
    """A result of 80 MB arrives whole."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "large.csv"
        path.write_text("x\n" + "".join(f"{number}\n" for number in range(8_000)))
        table = cluster.compute([{"read_csv": {"paths": [str(path)]}}, {"apply": {"expression": "repeat('0123456789', 1000)", "as": "wide"}}])
        assert table.num_rows == 8_000 and table.nbytes > 80_000_000, table.nbytes


def a_client_that_hangs_up(cluster):
    """The job of a client that has gone is cancelled: no worker works on."""

    def wait_until(work):
        end = time.monotonic() + START_SECONDS
        while any(worker["running"] for worker in cluster.workers()) != work:
            assert time.monotonic() < end, cluster.workers()
            time.sleep(0.02)

    def hang_up(cursor, seen):
        wait_until(True)
        seen.append("work")
        cursor.adbc_cancel()

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "slow.csv"
        path.write_text("name\n" + "station\n" * 1_000_000)
        with cluster.connect() as connection, connection.cursor() as cursor:
            seen = []
            thread = threading.Thread(target=hang_up, args=(cursor, seen))
            thread.start()
            refused(adbc_driver_manager.Error, "", lambda: cursor.execute(f'select count(*) from "{path}" where length(repeat(name, 3000)) > 0'))
            thread.join()
            assert seen == ["work"], "the job ended before the client hung up"
        wait_until(False)


def adbc_queries(cluster):
    """ADBC runs queries, also on several files, and gives Arrow and rows of Python."""
    south, north = str(HERE.parent / "data" / "sur.csv"), str(HERE.parent / "data" / "norte.csv")
    with cluster.connect() as connection, connection.cursor() as cursor:
        cursor.execute(f'select name, max(x) as top from "{DATA}" group by name order by top desc, name limit 3')
        top = whole().groupby("name", as_index=False)["x"].max().sort_values(["x", "name"], ascending=[False, True]).head(3)
        assert cursor.fetchall() == [tuple(row) for row in top.itertuples(index=False)]
        cursor.execute(f'with s as (select name, x from "{south}") select count(*) as n from s cross join "{north}" n')
        assert cursor.fetch_arrow_table().to_pylist() == [{"n": len(pandas.read_csv(south)) * len(pandas.read_csv(north))}]


def adbc_polls(cluster):
    """ADBC asks for the progress of a long query again and again (PollFlightInfo), and then reads its rows."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "long.csv"
        path.write_text("name\n" + "station\n" * 30_000)
        query = f'select count(*) as n from "{path}" where length(repeat(name, 3000)) > 0'
        with cluster.connect() as connection, connection.cursor() as cursor:
            cursor.adbc_statement.set_options(**{StatementOptions.INCREMENTAL.value: "true"})
            partitions, _ = cursor.adbc_execute_partitions(query)
            assert cursor.adbc_statement.get_option_float(StatementOptions.PROGRESS.value) == 1.0
            assert len(partitions) == 1, partitions
            cursor.adbc_read_partition(partitions[0])
            assert cursor.fetchall() == [(30_000,)]
            cursor.adbc_statement.set_options(**{StatementOptions.INCREMENTAL.value: "true"})
            refused(adbc_driver_manager.Error, "No field named z", lambda: cursor.adbc_execute_partitions(f'select z from "{path}"'))


def adbc_parameters(cluster):
    """Parameters of a query are values, whatever text they have."""
    with cluster.connect() as connection, connection.cursor() as cursor:
        name = whole()["name"].iloc[0]
        for value, count in ((name, ((whole()["name"] == name) & (whole()["x"] > -1e9)).sum()), ("x' or 'a' = 'a", 0), (None, 0)):
            cursor.execute(f'select count(*) from "{DATA}" where name = ? and x > ?', (value, -1e9))
            assert cursor.fetchone() == (count,), value
        cursor.execute(f'select cast(? as date) from "{DATA}" limit 1', (datetime.date(2026, 11, 29),))
        assert cursor.fetchone() == (datetime.date(2026, 11, 29),)


def adbc_errors(cluster):
    """ADBC shows our messages."""
    with cluster.connect() as connection, connection.cursor() as cursor:
        for query, message in (
            (f'select z from "{DATA}"', "No field named z"),
            ('select * from "/none.csv"', "/none.csv"),
            ("select * from weather", "name files in double quotes"),
            (f'drop table "{DATA}"', "only select is possible"),
            ("select 1", "reads at least one file"),
        ):
            refused(adbc_driver_manager.Error, message, lambda: cursor.execute(query))


def adbc_metadata(cluster):
    """ADBC learns what the server is, and the schema of a file that it names."""
    with cluster.connect() as connection:
        info = connection.adbc_get_info()
        assert info["vendor_name"] == "dataframe-master", info
        assert connection.adbc_get_table_types() == ["TABLE"]
        assert connection.adbc_get_table_schema(DATA).names == list(whole().columns)
        # The driver makes up a catalog without a name.
        assert not any(catalog["catalog_db_schemas"] for catalog in connection.adbc_get_objects(depth="tables").read_all().to_pylist())
        refused(adbc_driver_manager.Error, "", lambda: connection.adbc_get_table_schema("/none.csv"))


def pandas_reads_sql(cluster):
    """pandas.read_sql gives what pandas computes."""
    with cluster.connect() as connection:
        frame = pandas.read_sql(f'select name, avg(x) as mean from "{DATA}" group by name order by name', connection)
    expected = whole().groupby("name", as_index=False)["x"].mean().rename(columns={"x": "mean"})
    pandas.testing.assert_frame_equal(frame, expected, check_dtype=False)


CHECKS = (readme_examples, lists_of_operations, paths, an_empty_result, schemas, an_id_of_ones_own, errors_of_jobs, hostile_tickets, actions, a_large_result,
          a_client_that_hangs_up, adbc_queries, adbc_polls, adbc_parameters, adbc_errors, adbc_metadata, pandas_reads_sql)


def main():
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    warnings.simplefilter("error")
    started, failures = time.monotonic(), 0
    with Cluster(sys.argv[1]) as cluster:
        for check in CHECKS:
            try:
                check(cluster)
            except Exception as error:  # whatever a client raises is a failure of the check
                failures += 1
                print(f"FAIL {check.__name__}: {type(error).__name__}: {error}", flush=True)
        assert cluster.master.poll() is None, "the master has ended"
    print(f"Arrow Flight: {len(CHECKS) - failures} passed, {failures} failed, in {time.monotonic() - started:.0f} s")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main() else 0)
