#!/usr/bin/env python3
"""Compares `dataframe` with the real Dask: the same lists of operations on the same difficult files.

    conformance.py target/release/dataframe
    conformance.py target/release/dataframe --with '' --with '--workers 2 --middleware redis --broker {redis}'
    conformance.py target/release/dataframe --client xmlrpc
    conformance.py --table

Each `--with` is a set of flags for the program: Dask computes each case once, and the answers with each set of flags are compared
with it. Without `--with` and `--client`, the program computes in its own process. `{redis}` and `{rabbitmq}` in the flags are the URLs
of servers that are started for the run, and `{bucket}` is that of an empty folder. `--with-some` is like `--with`, for every tenth
case: for flags with which a case takes long. Each `--client` runs the code of the cases with the client in ../python, over XML-RPC
(`xmlrpc`) or Arrow Flight (`grpc`), on a master and two workers that are started from the folder of the program. `--flight FOLDER`
asks a cluster of the programs in FOLDER over Arrow Flight, with pyarrow alone. `--ballista FOLDER` runs the `dataframe` of that
folder, which is built with Ballista, on a scheduler with two executors that are started as `ballista_node` of the folder, and, for every
tenth case, on a scheduler and an executor inside of it. ballista.py tells which cases are refused there. Ends with `N passed, M failed`, and with exit
code 1 if a case failed. `--only TEXT` takes the cases whose name contains TEXT. `--table` prints the table of differences for
../README.md, and `--check-table` fails if it is another one there.

Needs the packages of requirements.txt.
"""

import argparse
import contextlib
import gzip
import json
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import ballista

HERE = Path(__file__).resolve().parent
README = HERE.parent / "README.md"
BEGIN, END = "<!-- differences: made by conformance/conformance.py --write-table -->", "<!-- end of differences -->"
ANSWER_SECONDS = 60
# `--with-some` takes one of so many cases.
SOME = 10
# Whose results are also read as CSV, JSON, Parquet and Arrow.
OUTPUT_CASES = {f"read_csv of {name}.csv" for name in ("plain", "nulls", "quotes", "newlines", "utf8", "utf8-names", "numbers", "booleans")} | {
    "groupby of plain.csv", "dtypes of plain.csv", "describe of nulls.csv", "isin of plain.csv", "dropna of header-only.csv"}


def make_files(folder):
    """Copies data/ to `folder`, and adds what is large or binary. The same bytes each time."""
    shutil.copytree(HERE / "data", folder, dirs_exist_ok=True)
    names = ["Ada", "Alan", "Grace", "Edsger", "Barbara"]
    (folder / "many").mkdir()
    for number in range(9):
        lines = [f"{names[(number + row) % 5]},{number * 10 + row},{row / 4}" for row in range(number % 7 + 1)]
        (folder / "many" / f"part-{number:02}.csv").write_text("name,x,y\n" + "".join(line + "\n" for line in lines))
    long = "".join(f"{name},{number},{chr(97 + number) * 150_000}\n" for number, name in enumerate(names))
    (folder / "long-fields.csv").write_text("name,x,text\n" + long)
    rows = "".join(f"{names[row % 5]},{row % 97},{(row * 7919 % 1000) / 8}\n" for row in range(3000))
    (folder / "blocks.csv").write_text("name,x,y\n" + rows)
    with gzip.GzipFile(folder / "compressed.csv.gz", "wb", mtime=0) as file:
        file.write(("name,x,y\n" + rows).encode())
    counted = "".join(f"{names[row % 5]},{row}\n" for row in range(60_000))
    (folder / "late-float.csv").write_text(f"name,x\n{counted}Ada,0.5\n")
    (folder / "late-text.csv").write_text(f"name,x\n{counted}Ada,many\nAlan,\n")
    (folder / "types-float.csv").write_text("name,x\nAlan,2.5\nGrace,\n")
    (folder / "plain-header.csv").write_text("name,city,x,y\n")


def absolute(operations, folder):
    """The same operations, with the files' whole paths."""
    if isinstance(operations, list):
        return [absolute(operation, folder) for operation in operations]
    if not isinstance(operations, dict):
        return operations
    return {name: [str(folder / path) for path in given] if name == "paths" else absolute(given, folder) for name, given in operations.items()}


class Silent(Exception):
    """The program has ended, or does not answer."""


class Program:
    """`dataframe run --lines`: one list of operations on a line in, one answer on a line out."""

    def __init__(self, program, flags):
        self.started = [program, "run", "--lines", *shlex.split(flags)]
        self.process = subprocess.Popen(self.started, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def ask(self, operations):
        """The answer to one list. A program that is silent for too long is ended, which is a failure of the run."""
        watch = threading.Timer(ANSWER_SECONDS, self.process.kill)
        watch.start()
        try:
            self.process.stdin.write(json.dumps(operations) + "\n")
            self.process.stdin.flush()
            line = self.process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            watch.cancel()
        if not line:
            raise Silent(f"{shlex.join(self.started)} ended, or was silent for {ANSWER_SECONDS} s, at: {json.dumps(operations)}")
        return json.loads(line)

    def end(self):
        """Ends the program, and says whether it ended well."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            return self.process.wait(timeout=ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            return self.process.wait()


def computed(compute, frames):
    """The frame that Dask computes, or its failure; and the object of pandas that it gave."""
    try:
        result = compute()
        return frames.of_pandas(result), result
    except Exception as error:  # whatever Dask raises is its answer
        return frames.failed(f"{type(error).__name__}: {error}"), None


def verdict(case, answer, dask, instead, frames):
    """What is wrong with an answer; None if nothing is."""
    if instead is None:
        return frames.difference(answer, dask, case.ordered)
    if frames.difference(answer, dask, case.ordered) is None:
        return f"does not differ from Dask any more (difference {case.differs!r}): take it out of cases.py"
    wrong = frames.difference(answer, instead, case.ordered)
    return wrong and f"differs as expected ({case.differs}), but is not what it should be: {wrong}"


def expectation(case, frames, fails):
    """What Dask gives, what is expected instead of it, if it is not that, and Dask's own object."""
    dask, result = computed(case.dask, frames)
    if case.differs is None:
        return dask, None, result
    instead = frames.failed("it should fail") if case.instead == fails else computed(case.instead, frames)[0]
    # A file is read with other types: most operations give the same, and what Dask cannot do with these types is no reference.
    if case.perhaps and (frames.difference(instead, dask, case.ordered) is None or (instead.failure and case.instead != fails)):
        instead = None
    return dask, instead, result


def check_comparison(case, frame, frames):
    """Ends the run if a changed frame would pass for this one: the comparison itself must notice."""
    if frame.failure:
        changed = [frames.Frame(["value"], [[1]])]
    else:
        changed = [frames.failed("it failed"), frames.Frame([*frame.columns, "more"], frame.rows), frames.Frame(frame.columns, [*frame.rows, [None] * len(frame.columns)])]
        if frame.rows and frame.columns:
            first = frame.rows[0][-1]
            other = not first if isinstance(first, bool) else first * 1.001 + 1 if isinstance(first, (int, float)) and abs(first) < 1e300 else f"{first}?"
            changed.append(frames.Frame(frame.columns, [[*frame.rows[0][:-1], other], *frame.rows[1:]]))
    for other in changed:
        if frames.difference(other, frame, case.ordered) is None:
            sys.exit(f"{case.name}: the comparison takes {other} for {frame}")


class Comparison:
    """What Dask gives for each case, and how the program's answers are compared with it."""

    def __init__(self, arguments, folder):
        import cases
        import frames

        self.arguments, self.folder, self.cases, self.frames = arguments, folder, cases, frames
        self.chosen = [case for case in cases.cases() if arguments.only in case.name]
        self.for_clients = [case for case in cases.client_cases() if arguments.clients and arguments.only in case.name]
        self.expected = []
        self.expected_of_clients = []

    def ask_dask(self):
        """Computes all cases with Dask, and checks the list of cases and the comparison itself."""
        import dask

        names = [case.name for case in self.chosen + self.for_clients]
        if len(set(names)) != len(names):
            sys.exit(f"two cases have the same name: {sorted(name for name in set(names) if names.count(name) > 1)}")
        started = time.monotonic()
        with dask.config.set(scheduler="synchronous"), contextlib.chdir(self.folder):
            self.expected = [expectation(case, self.frames, self.cases.FAILS) for case in self.chosen]
            self.expected_of_clients = [expectation(case, self.frames, self.cases.FAILS) for case in self.for_clients]
        refused, different = sum(bool(given.failure) for given, _, _ in self.expected), sum(instead is not None for _, instead, _ in self.expected)
        print(f"Dask {dask.__version__}: {len(names)} cases, {refused} that it refuses, {different} that differ, in {time.monotonic() - started:.0f} s", flush=True)
        shown = {case.differs for case, (_, instead, _) in zip(self.chosen, self.expected) if instead}
        if not self.arguments.only and shown != set(self.cases.DIFFERENCES):
            sys.exit(f"differences that no case shows, or that are not described: {sorted(set(self.cases.DIFFERENCES) ^ shown)}")
        for case, (given, _, _) in zip(self.chosen, self.expected):
            check_comparison(case, given, self.frames)
            if self.arguments.show:
                print(f"{case.name}: {given.failure or (given.columns, given.rows)}")

    def ask_program(self, path, flags, step=1):
        """Compares the cases with one set of flags, or one of so many. The numbers of those that are right and of those that are not."""
        started, passed, failures, refused = time.monotonic(), 0, [], 0
        program = Program(path, flags)
        try:
            for case, (dask, instead, _) in list(zip(self.chosen, self.expected))[::step]:
                answer = self.frames.of_answer(program.ask(absolute(case.operations, self.folder)))
                wrong = verdict(case, answer, dask, instead, self.frames)
                refusal = ballista.refusal(case) if "--engine ballista" in flags else None
                if refusal:
                    refused += 1
                    wrong = None if refusal in (answer.failure or "") else f"is not refused with {refusal!r}: {answer}"
                passed += not wrong
                if wrong:
                    failures.append(f"{case.name}: {wrong}\n     {json.dumps(case.operations)}")
            code = program.end()
            if code != 0:
                failures.append(f"the program ended with {code}")
        except Silent as silent:
            failures.append(str(silent))
        finally:
            program.end()
        report(flags, failures)
        print(f"dataframe {flags or '(in one process)'}: {passed} passed{f' ({refused} are refused, as told)' if refused else ''}, {len(failures)} failed, in {time.monotonic() - started:.0f} s", flush=True)
        return passed, len(failures)

    def ask_clients(self, ways):
        """Compares all cases with the client in ../python, one way after the other. The numbers of those that are right and of those that are not."""
        import client

        passed, failed = 0, 0
        self.cases.library = client.dataframe
        for way in ways:
            started, right, failures = time.monotonic(), 0, []
            with client.cluster(Path(self.arguments.program).parent, way, self.folder) as address, client.dataframe.Client(f"{client.WAYS[way]}://{address}"):
                for case, (dask, instead, like) in zip(self.chosen + self.for_clients, self.expected + self.expected_of_clients):
                    unlike = None
                    try:
                        result = client.answer(case)
                        given = self.frames.of_pandas(result)
                        unlike = None if instead or dask.failure else self.frames.unlikeness(result, like)
                    except client.Refused as refused:
                        given = self.frames.failed(refused)
                    except Exception as error:  # a fault of the client, also where a failure is expected
                        failures.append(f"{case.name}: {type(error).__name__}: {error}")
                        continue
                    wrong = verdict(case, given, dask, instead, self.frames) or unlike
                    right += not wrong
                    if wrong:
                        failures.append(f"{case.name}: {wrong}")
                for name, wrong in client.others(way, address, self.folder):
                    right += not wrong
                    if wrong:
                        failures.append(f"{name}: {wrong}")
            report(f"--client {way}", failures)
            print(f"the client in Python over {way}: {right} passed, {len(failures)} failed, in {time.monotonic() - started:.0f} s", flush=True)
            passed, failed = passed + right, failed + len(failures)
        return passed, failed

    def ask_flight(self, programs):
        """Compares all cases over Arrow Flight with a cluster of these programs. The numbers of those that are right and of those that are not."""
        import flight

        started, failures = time.monotonic(), []
        with flight.Cluster(programs) as cluster:
            for case, (dask, instead, _) in zip(self.chosen, self.expected):
                try:
                    answer = self.frames.of_arrow(cluster.compute(absolute(case.operations, self.folder)))
                except Exception as error:  # whatever pyarrow raises is the answer
                    answer = self.frames.failed(error)
                wrong = verdict(case, answer, dask, instead, self.frames)
                if wrong:
                    failures.append(f"{case.name}: {wrong}\n     {json.dumps(case.operations)}")
        report("Arrow Flight", failures)
        passed = len(self.chosen) - len(failures)
        print(f"Arrow Flight: {passed} passed, {len(failures)} failed, in {time.monotonic() - started:.0f} s", flush=True)
        return passed, len(failures)

    def read_outputs(self, program, flags):
        """Results in each format, read by pandas and pyarrow. The numbers of those that are right and of those that are not."""
        failures, passed = [], 0
        for case, (dask, instead, _) in zip(self.chosen, self.expected):
            for output in ("csv", "json", "parquet", "arrow") if case.name in OUTPUT_CASES else ():
                try:
                    frame = self.frames.of_pandas(written(program, flags, case.operations, output, self.folder))
                    wanted = instead or dask
                    # Rows of JSON have names, and a file without rows has none.
                    wanted = wanted if wanted.rows or output != "json" else self.frames.Frame([], [])
                    wrong = self.frames.difference(frame, wanted, case.ordered)
                except Exception as error:  # whatever a reader says
                    wrong = f"{type(error).__name__}: {error}"
                passed += not wrong
                if wrong:
                    failures.append(f"{case.name} as {output}: {wrong}")
        report(f"{flags} --output", failures)
        return passed, len(failures)


def report(flags, failures):
    """Says what is wrong."""
    for failure in failures:
        print(f"FAIL [{flags}] {failure}", flush=True)


def compare(arguments):
    """Runs all cases. The number of failures."""
    warnings.simplefilter("ignore")
    import brokers

    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as opened:
        comparison = Comparison(arguments, Path(temporary))
        make_files(comparison.folder)
        comparison.ask_dask()
        results = []
        if arguments.program or arguments.ballista:
            all_flags = [(flags, 1) for flags in arguments.flags] + [(flags, SOME) for flags in arguments.some]
            all_flags = [(brokers.insert(flags, opened), step) for flags, step in all_flags]
            engines = ballista.flags(arguments.ballista, opened, not arguments.only) if arguments.ballista else []
            with ThreadPoolExecutor(os.cpu_count()) as threads:
                results = [threads.submit(comparison.ask_clients, arguments.clients)] if arguments.clients else []
                results += [threads.submit(comparison.ask_program, arguments.program, *flags) for flags in all_flags]
                results += [threads.submit(comparison.read_outputs, arguments.program, "")] if all_flags else []
                results += [threads.submit(comparison.ask_program, f"{arguments.ballista}/dataframe", *flags) for flags in engines]
                # What writes a format does not know the middleware. Another engine has its own types for text.
                results += [threads.submit(comparison.read_outputs, f"{arguments.ballista}/dataframe", flags) for flags, _ in engines[:1]]
                results += [threads.submit(comparison.ask_flight, arguments.flight)] if arguments.flight else []
    passed, failures = (sum(counts) for counts in zip((0, 0), *(result.result() for result in results)))
    print(f"{passed} passed, {failures} failed")
    return failures


def written(program, flags, operations, output, folder):
    """What a program of others reads from the result in one format of `--output`."""
    import pandas
    import pyarrow

    path = folder / f"result-{threading.get_ident()}.{output}"
    with open(path, "wb") as file:
        command = [program, "run", "--json", json.dumps(absolute(operations, folder)), "--output", output, *shlex.split(flags)]
        subprocess.run(command, stdout=file, check=True, timeout=ANSWER_SECONDS)
    if output == "csv":
        return pandas.read_csv(path)
    if output == "json":
        # Each row has all columns, in their order; pandas would guess at types.
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        return pandas.DataFrame(rows, dtype=object)
    if output == "parquet":
        return pandas.read_parquet(path)
    with pyarrow.OSFile(str(path)) as file, pyarrow.ipc.open_stream(file) as stream:
        return stream.read_all().to_pandas()


def table():
    """The differences from Dask as a table of Markdown."""
    import cases

    unknown = {case.differs for case in cases.cases() if case.differs} ^ set(cases.DIFFERENCES)
    if unknown:
        sys.exit(f"differences that no case has, or that are not described: {sorted(unknown)}")
    rows = ["| | Dask | `dataframe` | why |", "| --- | --- | --- | --- |"]
    rows += [f"| {d.what} | {d.dask} | {d.ours} | {d.why} |" for d in cases.DIFFERENCES.values()]
    return "\n".join(rows)


def check_table(write):
    """Whether README.md has the table of today; writes it there if told."""
    text = README.read_text()
    try:
        before, rest = text.split(BEGIN)
        _, after = rest.split(END)
    except ValueError:
        sys.exit(f"{README} has no place for the table: {BEGIN} … {END}")
    wanted = f"{before}{BEGIN}\n\n{table()}\n\n{END}{after}"
    if write:
        README.write_text(wanted)
    elif text != wanted:
        sys.exit(f"the table of differences in {README} is not up to date: run conformance.py --write-table")


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("program", nargs="?", help="the program `dataframe`; without it, only Dask's half runs")
    parser.add_argument("--with", dest="flags", action="append", metavar="FLAGS", help="flags for the program, such as '--workers 2 --middleware redis'; may be given several times")
    parser.add_argument("--with-some", dest="some", action="append", default=[], metavar="FLAGS", help="the same, for every tenth case")
    parser.add_argument("--client", dest="clients", action="append", choices=["xmlrpc", "grpc"], default=[], help="compare the client in ../python, too; may be given several times")
    parser.add_argument("--flight", metavar="FOLDER", help="compare over Arrow Flight, too, with dataframe-master and dataframe-worker of this folder")
    parser.add_argument("--ballista", metavar="FOLDER", help="compare on Ballista, too, with `dataframe` and `ballista_node` of this folder")
    parser.add_argument("--only", default="", metavar="TEXT", help="only the cases whose name contains TEXT")
    parser.add_argument("--show", action="store_true", help="print what Dask gives")
    parser.add_argument("--table", action="store_true", help="print the table of differences")
    parser.add_argument("--check-table", action="store_true", help="fail if the table in README.md is not up to date")
    parser.add_argument("--write-table", action="store_true", help="write the table into README.md")
    arguments = parser.parse_args()
    arguments.flags = arguments.flags or ([] if arguments.clients or arguments.some or not arguments.program else [""])
    if arguments.program:
        arguments.program = os.path.abspath(arguments.program)
    if arguments.ballista:
        arguments.ballista = os.path.abspath(arguments.ballista)
    if arguments.table:
        print(table())
    elif arguments.check_table or arguments.write_table:
        check_table(arguments.write_table)
    else:
        sys.exit(1 if compare(arguments) else 0)


main()
