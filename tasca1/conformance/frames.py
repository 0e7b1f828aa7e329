"""Frames as both sides give them, and whether they are equal.

A frame is a list of column names and a list of rows. Missing is None, whether it was null, NaN, NaT or NA. Numbers are
compared by value, integers exactly; dates and times by the moment; truth values are not numbers.
"""

import datetime
import math
import re
from dataclasses import dataclass

import numpy
import pandas

RELATIVE = 1e-9


@dataclass
class Frame:
    """Columns and rows, or the reason why there are none."""

    columns: list
    rows: list
    failure: str | None = None


def failed(reason):
    """The frame of a computation that failed."""
    return Frame([], [], str(reason) or "no reason given")


def value(raw):
    """A value of pandas, Dask or JSON as a value of Python."""
    if raw is None or raw is pandas.NA or raw is pandas.NaT:
        return None
    if isinstance(raw, (bool, numpy.bool_)):
        return bool(raw)
    if isinstance(raw, (int, numpy.integer)):
        return int(raw)
    if isinstance(raw, (float, numpy.floating)):
        return None if math.isnan(raw) else float(raw)
    if isinstance(raw, (datetime.datetime, datetime.date, pandas.Timestamp)):
        return pandas.Timestamp(raw).isoformat()
    return str(raw)


def of_pandas(result):
    """The frame of what Dask has computed: a frame, a column or one value."""
    if isinstance(result, pandas.Series):
        result = result.to_frame()
    if not isinstance(result, pandas.DataFrame):
        result = pandas.DataFrame({"value": [result]})
    columns = [str(column) for column in result.columns]
    cells = [list(result.iloc[:, i]) for i in range(len(columns))]
    # A frame without columns has rows too.
    return Frame(columns, [[value(column[row]) for column in cells] for row in range(len(result))])


def of_answer(answer):
    """The frame of one line that `dataframe run --lines` has answered."""
    if "error" in answer:
        return failed(answer["error"].get("message") or answer["error"])
    frame = answer["frame"]
    names = [name for name, _ in frame["columns"]]
    types = [dtype for _, dtype in frame["columns"]]
    return Frame(names, [[typed(cell, dtype) for cell, dtype in zip(row, types)] for row in frame["rows"]])


def of_arrow(table):
    """The frame of a table of pyarrow."""
    columns = [column.to_pylist() for column in table.columns]
    return Frame(table.column_names, [[value(column[row]) for column in columns] for row in range(table.num_rows)])


def typed(cell, dtype):
    """A value of JSON. What JSON has no number for comes as a word."""
    if dtype == "float64" and cell in ("inf", "-inf"):
        return float(cell)
    return value(cell)


MOMENT = re.compile(r"\d{4}-\d\d-\d\d([T ]\d\d:\d\d:\d\d(\.\d+)?)?$")


def moment(text):
    """A date or a time in one spelling: midnight is the date."""
    text = text.replace(" ", "T").removesuffix("T00:00:00")
    return re.sub(r"(\.\d*?)0+$", r"\1", text).removesuffix(".") if "." in text else text


def same_value(ours, theirs):
    """Whether two values are equal, for whoever computes with them."""
    if ours is None or theirs is None:
        return ours is theirs
    if isinstance(ours, bool) or isinstance(theirs, bool):
        return isinstance(ours, bool) and isinstance(theirs, bool) and ours == theirs
    if isinstance(ours, int) and isinstance(theirs, int):
        return ours == theirs
    if isinstance(ours, (int, float)) and isinstance(theirs, (int, float)):
        return ours == theirs or math.isclose(ours, theirs, rel_tol=RELATIVE, abs_tol=1e-300)
    if isinstance(ours, str) and isinstance(theirs, str):
        if MOMENT.match(ours) and MOMENT.match(theirs):
            return moment(ours) == moment(theirs)
        return ours == theirs
    return False


def order_of(row):
    """A key by which rows can be ordered, whatever is in them."""
    return [(cell is not None, isinstance(cell, bool), isinstance(cell, str), f"{cell:.6g}" if isinstance(cell, (int, float)) else str(cell)) for cell in row]


def difference(ours, theirs, ordered=True):
    """What differs, in one line; None if the frames are equal. Two failures are equal, whatever they say."""
    if ours.failure or theirs.failure:
        if ours.failure and theirs.failure:
            return None
        return f"ours fails: {ours.failure}" if ours.failure else f"Dask fails ({theirs.failure[:200]}), ours gives {ours.columns} {ours.rows[:3]}"
    if ours.columns != theirs.columns:
        return f"columns: ours {ours.columns}, Dask's {theirs.columns}"
    if len(ours.rows) != len(theirs.rows):
        return f"rows: ours {len(ours.rows)} {ours.rows[:5]}, Dask's {len(theirs.rows)} {theirs.rows[:5]}"
    pairs = zip(ours.rows, theirs.rows) if ordered else zip(sorted(ours.rows, key=order_of), sorted(theirs.rows, key=order_of))
    for number, (mine, dask) in enumerate(pairs):
        for column, left, right in zip(ours.columns, mine, dask):
            if not same_value(left, right):
                return f"row {number}, column {column!r}: ours {left!r}, Dask's {right!r}"
    return None


def unlikeness(ours, theirs):
    """What differs between two objects of pandas apart from their values: kind, names, types, index. None if nothing does.

    Two types count as one: a type with missing values and the type that Dask takes in its place (../python/dataframe.py tells which),
    and times of any precision. The client's rows have no labels, so that only an index with a name or with texts is compared.
    """
    kinds = [type(one).__name__ if isinstance(one, (pandas.DataFrame, pandas.Series)) else "value" for one in (ours, theirs)]
    if kinds[0] != kinds[1]:
        return f"kind: ours {kinds[0]}, Dask's {kinds[1]}"
    if kinds[0] == "value":
        return None
    if kinds[0] == "Series" and ours.name != theirs.name:
        return f"name: ours {ours.name!r}, Dask's {theirs.name!r}"
    dtypes = [[one.dtype] if kinds[0] == "Series" else list(one.dtypes) for one in (ours, theirs)]
    for place, (mine, dask) in enumerate(zip(*dtypes)):
        if not same_dtype(mine, dask):
            return f"type of column {place}: ours {mine}, Dask's {dask}"
    names = [list(one.index.names) for one in (ours, theirs)]
    if names[0] != names[1]:
        return f"index: ours {names[0]}, Dask's {names[1]}"
    if names[1] != [None] or str(theirs.index.dtype) in ("str", "object"):
        return difference(*(of_pandas(one.index.to_frame(index=False, name=[str(n) for n in range(one.index.nlevels)])) for one in (ours, theirs)))
    return None


def same_dtype(ours, theirs):
    """Whether two types are one, as far as the client promises."""
    mine, dask = str(ours), str(theirs)
    # Where integers are missing, or were missing once, Dask has `float64`; and types of its own for lengths and counts.
    integers = mine.lower().startswith("int") and dask in ("float64", "Int64", "int64[pyarrow]")
    return mine == dask or integers or (mine, dask) in {("boolean", "object"), ("string", "str")} or (mine.startswith("datetime64") and dask.startswith("datetime64"))
