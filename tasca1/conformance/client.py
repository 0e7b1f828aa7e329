"""The client in ../python as it is compared with Dask: over a real master and two workers, with the code of the cases."""

import contextlib
import importlib
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from unittest import mock

sys.path.insert(0, str(Path(__file__).resolve().parent.parent / "python"))

import dataframe  # noqa: E402  the folder above has to be known
import test_dataframe  # noqa: E402

EXAMPLE = Path(dataframe.__file__).with_name("example.py")
DATA = EXAMPLE.parent.parent / "data"
#: A result of two pieces, as the master sends at most 16 MiB at a time.
LONG_ROWS, LONG_TEXT = 80_000, 250
EXAMPLE_SECONDS = 60

WORKERS = 2
START_SECONDS = 60
#: The middleware of the cluster for each way of the client, and the scheme of its address.
WAYS = {"xmlrpc": "http", "grpc": "grpc"}


class Refused(Exception):
    """What the client refuses, or what the cluster cannot compute: an answer, and no fault of the client."""


@contextlib.contextmanager
def cluster(programs, middleware, folder):
    """A master and its workers, which run in `folder`. Gives the address of the master, as `HOST:PORT`."""
    with tempfile.TemporaryDirectory() as temporary, contextlib.ExitStack() as ended:
        log = Path(temporary) / "master.log"
        start(programs / "dataframe-master", ["--listen", "127.0.0.1:0", "--data-dir", f"{temporary}/master"], middleware, folder, log, ended)
        address = found(r'listening.*address="?([\d.]+:\d+)', log)
        for number in range(WORKERS):
            arguments = ["--name", f"worker{number}", "--listen", "127.0.0.1:0", "--master", address, "--data-dir", f"{temporary}/worker{number}", "--threads", "1"]
            start(programs / "dataframe-worker", arguments, middleware, folder, Path(temporary) / f"worker{number}.log", ended)
            found(f"worker taken in.*worker{number}", log)
        yield address


def start(program, arguments, middleware, folder, log, ended):
    """Starts a program, which is killed at the end."""
    with open(log, "wb") as output:
        command = [str(program), "--middleware", middleware, *arguments]
        process = subprocess.Popen(command, cwd=folder, stdin=subprocess.DEVNULL, stdout=output, stderr=output, env={**os.environ, "NO_COLOR": "1"})
    ended.callback(process.wait)
    ended.callback(process.send_signal, signal.SIGKILL)


def found(pattern, log):
    """The first group of a pattern in a log, as soon as it is there."""
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline:
        match = re.search(pattern, log.read_text(errors="replace"))
        if match:
            return match.group(match.lastindex or 0)
        time.sleep(0.01)
    sys.exit(f"{pattern!r} is not in the log of the master: {log.read_text(errors='replace')[-2000:]}")


def answer(case):
    """What the client gives for a case: by the code that Dask runs, or by its own methods where that code has Python in it."""
    try:
        return by_methods(case.operations) if case.has_python else case.dask()
    except (dataframe.DataFrameError, NotImplementedError) as error:
        raise Refused(str(error)) from error
    except AttributeError as error:
        if not str(error).startswith("groups have no aggregate"):
            raise
        raise Refused(str(error)) from error


def others(way, address, folder):
    """What no case shows. Gives the names of the checks, and what is wrong with each; None if nothing is."""
    yield "a long result", long_result(way, folder)
    yield "hostile texts", hostile_texts(folder)
    for name, flags in (("with pandas", []), ("with Python alone", ["-I", "-S"])):
        yield f"the example, {name}", None if way == "grpc" and flags else example(f"{WAYS[way]}://{address}", flags)


def hostile_texts(folder):
    """Texts that would change an expression if they could: they come back as they are, and are found."""
    df = dataframe.read_csv(folder / "one-row.csv")
    for text in test_dataframe.HOSTILE:
        put_in = df.assign(z=text, w=df.name.str.len().astype(str) + text)
        found = put_in[(put_in.z == text) & put_in.z.isin([text]) & put_in.z.str.contains(text, regex=False)].compute()
        if [list(found.z), [value.lstrip("0123456789") for value in found.w]] != [[text], [text]]:
            return f"{text!r} gives {found.to_dict()}"
    return None


def long_result(way, folder):
    """Reads a result of several pieces, with pyarrow and, where that is possible, without."""
    path = folder / "long-result.csv"
    path.write_text("number,text\n" + "".join(f"{row},{row:0{LONG_TEXT}}\n" for row in range(LONG_ROWS)))
    df = dataframe.read_csv(path, dtype={"text": str})
    finders = [dataframe._find]
    if way == "xmlrpc":
        finders.append(lambda module: None if module == "pyarrow" else importlib.import_module(module))
    for find in finders:
        with mock.patch.object(dataframe, "_find", find):
            frame = df.compute()
        if list(frame.number) != list(range(LONG_ROWS)) or list(frame.text) != [f"{row:0{LONG_TEXT}}" for row in range(LONG_ROWS)]:
            return f"{len(frame)} rows, and not the {LONG_ROWS} of the file"
    return None


def example(address, flags):
    """Runs the example, which has to end well and to show the last of the nine operations."""
    given = {**os.environ, "DATAFRAME_MASTER": address, "DATAFRAME_FILES": str(DATA / "*.csv"), "PYTHONIOENCODING": "utf-8"}
    # Python alone does not look beside the script, either.
    script = f"import sys; sys.path.insert(0, {str(EXAMPLE.parent)!r}); exec(compile(open({str(EXAMPLE)!r}, encoding='utf-8').read(), {str(EXAMPLE)!r}, 'exec'))"
    ran = subprocess.run([sys.executable, *flags, "-c", script], env=given, capture_output=True, text=True, timeout=EXAMPLE_SECONDS, check=False)
    shown = ("not sent to the cluster", "-3.5", "Puerto Iguazú", "86.0")
    return None if ran.returncode == 0 and all(text in ran.stdout for text in shown) else f"exit code {ran.returncode}: {ran.stdout[-500:]} {ran.stderr[-1500:]}"


def by_methods(operations):
    """The list of operations, method by method."""
    rows = dataframe.from_operations(operations[:1])
    for operation in operations[1:]:
        (name, arguments), = operation.items()
        if name == "query":
            rows = rows.query(arguments["predicate"])
        elif "function" in arguments:
            rows = rows[arguments["column"]].apply(arguments["function"]).rename(arguments.get("as", "apply"))
        else:
            rows = rows.apply(arguments["expression"], name=arguments.get("as"))
    return rows.compute()
