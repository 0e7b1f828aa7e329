"""A client of the distributed DataFrame that looks like Dask: one file, which a student copies beside a script.

    import dataframe as dd

    dd.Client("http://localhost:9000")
    df = dd.read_csv("/data/*.csv")
    print(df[df.x > 3].groupby("name").y.mean().compute())

Nothing is computed before `compute()`, or where Dask computes: `head`, `tail`, `len(df)`, `df.columns`, `df.dtypes`,
`to_csv`. A frame is a list of operations in JSON, which `df.operations` shows. The master gets this list, and the rows come
back. No Python code travels: `df.apply` takes an expression in SQL.

The address of the master says how it is reached:

| address | way | needs |
| --- | --- | --- |
| `http://HOST:PORT` | XML-RPC, from a master with `--middleware xmlrpc` | Python alone |
| `grpc://HOST:PORT` | Arrow Flight, from a master with `--middleware grpc` or `--flight-listen` | `pyarrow` |

With pandas installed, `compute()` gives a DataFrame, a Series or one value, as Dask does. Without pandas, a frame is a list of
dicts, a column is a list (a dict from key to value after `groupby`), and the aggregates of a frame are a dict. Both ways work
with or without pandas; `pyarrow` also makes long results faster over XML-RPC.

What differs from Dask:

* Rows have no labels. The index of a result counts from 0, also after `df[df.x > 3]`. After `groupby`, `describe` and
  `value_counts` the index holds the keys.
* A column of integers or truth values in which some are missing has the type `Int64` or `boolean`, and not `float64` or `object`.
* `sum`, `mean`, `std` and `var` of a frame leave columns of text out, unless they are called with `numeric_only=False`.
* `df.query` takes SQL. Names in SQL that have capital letters or spaces are written in double quotes.
* `x // y` gives numbers with a point. `x + y` puts texts together only if one of them is known to be a text, as in
  `df.name + " " + df.city` or `df.name.astype(str) + df.city`.
* `df.x - df.x.mean()` computes the mean at once, because an expression sees one row at a time.
* After `groupby(...).agg({"x": ["min", "max"]})` the columns are named `min(x)` and `max(x)` until `compute()` gives them two
  levels.

Whatever else cannot be done is refused when it is called, and no argument is ignored.
"""

from __future__ import annotations

import ast
import base64
import csv
import datetime
import decimal
import http.client
import importlib
import io
import json
import math
import os
import re
import secrets
import ssl
import struct
import time
import xml.parsers.expat
import xmlrpc.client
from typing import Any, Callable, Dict, FrozenSet, Iterable, Iterator, List, Mapping, NoReturn, Optional, Sequence, Tuple, Union

__all__ = ["Client", "DataFrame", "DataFrameError", "GroupBy", "Scalar", "Series", "compute", "from_operations", "read_csv"]

_Str = str  # within `Series`, `str` is what stands behind a column of texts

Operation = Dict[str, Any]
"""One operation of the list in JSON: an object with one key, the operation's name."""

DEFAULT_MASTER = "http://localhost:9000"
"""Where the master is looked for, if neither `Client` nor the variable `DATAFRAME_MASTER` says so."""

NULL_WORDS = (
    "#N/A", "#N/A N/A", "#NA", "-1.#IND", "-1.#QNAN", "-NaN", "-nan", "1.#IND", "1.#QNAN", "<NA>", "N/A",
    "NA", "NULL", "NaN", "None", "n/a", "nan", "null",
)
"""The words that mean a missing value in CSV unless `read_csv` is told otherwise, as in pandas."""

_LAMBDA = (
    "Python functions are not sent to the cluster, which runs no code from the network: write an expression in SQL, such as "
    "df.apply(\"x * 2 + length(name)\"), or use the columns themselves, such as df.x * 2 + df.name.str.len()"
)


class DataFrameError(Exception):
    """A computation failed, or no master answered. The message names the cause and the way out.

    `code` is the word of the master for the kind of failure, such as `bad-job` (the operations or the data are wrong), `file`,
    `no-workers`, `resources` or `refused`.
    """

    def __init__(self, message: str, code: str = "internal") -> None:
        super().__init__(message)
        self.code = code


# --------------------------------------------------------------------------------------------------------------------
# Values and names in SQL. Whatever a value holds, it stays one value.


def _sql_name(name: str) -> str:
    """A column's name in SQL, whatever characters it has."""
    return '"' + name.replace('"', '""') + '"'


def _plain(value: Any) -> Any:
    """A value of numpy or pandas as a value of Python."""
    if isinstance(value, (str, bool, int, float, datetime.date)) or value is None:
        missing = isinstance(value, float) and math.isnan(value) or str(value) == "NaT"
        return None if missing and not isinstance(value, str) else value
    if type(value).__name__ == "NAType":
        return None
    if type(value).__module__ == "numpy" and hasattr(value, "item") and getattr(value, "ndim", 1) == 0:
        item = value.item()
        if type(value).__name__ == "datetime64":
            if isinstance(item, int):  # nanoseconds, for which Python has no type
                raise TypeError(f"{value!r} has nanoseconds: give a pandas.Timestamp or a text")
            return item
        return _plain(item)
    raise TypeError(f"a number, a text, a truth value, a date, a time or None is needed, and not {value!r} ({type(value).__name__})")


def _sql_value(value: Any) -> str:
    """A value in SQL. Missing values are `NULL`."""
    value = _plain(value)
    if value is None:
        return "NULL"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int):
        digits = str(int(value))
        if -(1 << 63) < value < 1 << 63:
            return digits if value >= 0 else f"({digits})"
        if len(digits.lstrip("-")) > 38:
            raise ValueError(f"a number of {len(digits)} digits is too long: at most 38 are possible")
        return f"CAST('{digits}' AS {'BIGINT' if value == -(1 << 63) else 'DECIMAL(38, 0)'})"
    if isinstance(value, float):
        text = repr(float(value))
        if math.isinf(value):
            return f"CAST('{text}' AS DOUBLE)"
        # `x - -1` would be the start of a comment.
        return f"({text})" if text.startswith("-") else text
    if isinstance(value, str):
        return "'" + value.replace("'", "''") + "'"
    return f"CAST('{_moment(value)}' AS {'TIMESTAMP' if isinstance(value, datetime.datetime) else 'DATE'})"


def _json_value(value: Any) -> Any:
    """A value for JSON. Missing values are null; dates and times are texts."""
    value = _plain(value)
    if isinstance(value, datetime.date):
        return _moment(value)
    if isinstance(value, float) and math.isinf(value):
        raise ValueError("infinity has no number in JSON: use an expression, such as df.x == float('inf')")
    # Subclasses, such as those of enum, are written as what they hold.
    if isinstance(value, str):
        return "".join(value)
    return value if value is None or isinstance(value, bool) else int(value) if isinstance(value, int) else float(value)


def _moment(value: datetime.date) -> str:
    """A date or a time in ISO 8601."""
    if isinstance(value, datetime.datetime) and value.tzinfo is not None:
        raise ValueError(f"{value!r} has a time zone, and columns have none: use value.replace(tzinfo=None)")
    return value.isoformat()


# --------------------------------------------------------------------------------------------------------------------
# Arguments.


def _names(value: Any, what: str) -> List[str]:
    """One name or several, as a list."""
    if isinstance(value, (str, Series)):
        value = [value]
    if not isinstance(value, (list, tuple)) and type(value).__name__ != "Index":
        raise TypeError(f"{what} takes the name of a column or a list of names, and not {value!r}")
    if any(isinstance(item, Series) and item._column is None for item in value):
        raise NotImplementedError(f"{what} takes columns of the frame: give a computed one a name first, df.assign(y=df.x * 2)")
    names = [item._column if isinstance(item, Series) else item for item in value]
    wrong = [name for name in names if not isinstance(name, str)]
    if wrong:
        raise TypeError(f"{what} takes names of columns, which are texts, and not {wrong[0]!r}")
    return [str(name) for name in names]


def _whole(value: Any, what: str, least: int = 0) -> int:
    """A whole number."""
    number = _plain(value)
    if not isinstance(number, int) or isinstance(number, bool) or number < least:
        raise ValueError(f"{what} is a whole number of at least {least}, and not {value!r}")
    return number


def _only(value: Any, allowed: Sequence[Any], what: str, advice: str) -> None:
    """Refuses an argument of Dask that can have no other value here."""
    if not any(value is one or (type(value) is type(one) and value == one) for one in allowed):
        raise NotImplementedError(f"{what}={value!r} is not possible: {advice}")


def _one_of(value: Any, allowed: Sequence[str], what: str) -> str:
    """One of some words."""
    if value not in allowed:
        raise ValueError(f"{what} is one of {', '.join(map(repr, allowed))}, and not {value!r}")
    return str(value)


def _refuse_function(value: Any) -> None:
    """Refuses what could only be run by sending code."""
    if callable(value) and not isinstance(value, (str, _Lazy)):
        raise TypeError(_LAMBDA)


# --------------------------------------------------------------------------------------------------------------------
# Frames and columns: lists of operations that grow.

_KEEP_ROWS = {"select", "query", "assign", "drop", "rename", "fillna"}
_NUMERIC_ONLY = {"sum", "mean", "std", "var"}
_SQL_TYPES = {
    "int64": "BIGINT", "float64": "DOUBLE", "bool": "BOOLEAN", "string": "VARCHAR", "date": "DATE", "datetime": "TIMESTAMP",
}
_DTYPES = {
    "int": "int64", "int64": "int64", "Int64": "int64", "float": "float64", "float64": "float64", "Float64": "float64", "bool": "bool",
    "boolean": "bool", "str": "string", "string": "string", "object": "string", "date": "date", "datetime": "datetime",
}
_FUNCTIONS = {
    "is_null": "({} IS NULL)", "not_null": "({} IS NOT NULL)", "length": "character_length({})", "trim": "btrim({})", "sign": "signum({})",
    "weekday": "date_part('dow', {})", **{part: "date_part('" + part + "', {})" for part in ("year", "month", "day", "hour", "minute", "second")},
    **{"to_" + dtype: "CAST({} AS " + sql + ")" for dtype, sql in _SQL_TYPES.items()},
}
_NOT_HERE = {
    **dict.fromkeys(("iloc", "loc", "at", "iat", "index"), "rows have no labels: df[df.x > 3] and df.head(3) choose rows, and df[\"x\"] chooses a column"),
    **dict.fromkeys(("shape", "size"), "len(df) is the number of rows, and df.columns are the columns"),
    "values": "df.compute() gives the rows",
    "map_partitions": _LAMBDA, "map": _LAMBDA, "pipe": _LAMBDA, "applymap": _LAMBDA,
}


def _dtype(given: Any) -> str:
    """A type of Python, numpy or pandas in the words of the language."""
    text = given.__name__ if isinstance(given, type) else str(given)
    text = "datetime" if text.startswith("datetime64") else text
    if text not in _DTYPES:
        raise ValueError(f"there is no type {given!r}: types are {', '.join(_SQL_TYPES)}")
    return _DTYPES[text]


class _Lazy:
    """Something that is computed on the cluster: a frame, a column or one value."""

    def compute(self) -> Any:
        """Computes it, and waits for the result."""
        raise NotImplementedError

    def __bool__(self) -> bool:
        raise TypeError(f"a {type(self).__name__} is not computed yet, and so neither true nor false: join conditions with & | ~, or call compute()")


class _Rows(_Lazy):
    """What frames and columns have in common: they are rows."""

    def _list(self) -> List[Operation]:
        """The operations that make exactly these rows."""
        raise NotImplementedError

    def _present(self, table: "_Table") -> Any:
        """The result for the user."""
        raise NotImplementedError

    @property
    def operations(self) -> List[Operation]:
        """The list of operations that the master gets, as JSON has it. The language is described in `operation.rs`."""
        listed: List[Operation] = json.loads(json.dumps(self._list()))
        return listed

    def compute(self) -> Any:
        """Computes the rows on the cluster, and gives them as an object of pandas (without pandas: as lists and dicts).

        Raises `DataFrameError` if the computation fails or no master answers.
        """
        return self._present(_client().run(self._list()))

    def explain(self) -> str:
        """Tells how the rows are computed: the plan, its tasks, and where they ran. Over XML-RPC only."""
        return _client().explain(self._list())

    def __len__(self) -> int:
        rows = _client().run([*self._list(), {"len": {}}]).rows()
        return int(rows[0][0])

    def to_csv(self, path: Union[str, "os.PathLike[str]"], *, index: Optional[bool] = None) -> None:
        """Computes the rows, and writes them to one CSV file on this computer.

        The keys of a `groupby` are written, and numbers of rows are not, unless `index` says otherwise.
        """
        table = _client().run(self._list())
        if _find("pandas") is not None:
            result = self._present(table)
            result.to_csv(path, index=bool(self._has_keys()) if index is None else index)
            return
        _only(index, (None,), "index", "it needs pandas: pip install pandas")
        with open(path, "w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(table.names)
            writer.writerows(["" if cell is None else cell for cell in row] for row in table.rows())

    def to_parquet(self, path: Union[str, "os.PathLike[str]"]) -> None:
        """Computes the rows, and writes them to one Parquet file on this computer, keys of a `groupby` as columns. Needs `pyarrow`."""
        parquet = _need("pyarrow.parquet", "to_parquet")
        parquet.write_table(_client().run(self._list()).arrow(), str(os.fspath(path)))

    def _has_keys(self) -> bool:
        return False


class DataFrame(_Rows):
    """A lazy frame. `read_csv` makes one, and each method makes another one from it.

    `df.x` and `df["x"]` are columns, `df[["x", "y"]]` is a frame of some columns, `df[df.x > 3]` has the rows for which a condition
    is true, and `df["y"] = df.x * 2` adds a column to this frame.
    """

    _operations: List[Operation]
    # The first columns, which pandas gets as the index, and the other ones. Without keys, the other ones may be unknown: empty.
    _keys: Tuple[str, ...]
    _columns: Tuple[str, ...]
    # What pandas gets in place of the names of columns and keys.
    _labels: Dict[str, Any]

    def __init__(
        self, operations: List[Operation], keys: Sequence[str] = (), columns: Sequence[str] = (), labels: Optional[Mapping[str, Any]] = None
    ) -> None:
        values = {"_operations": list(operations), "_keys": tuple(keys), "_columns": tuple(columns), "_labels": dict(labels or {})}
        self.__dict__.update(values)

    def _list(self) -> List[Operation]:
        return self._operations

    def _has_keys(self) -> bool:
        return bool(self._keys)

    def _with(self, name: str, **arguments: Any) -> "DataFrame":
        """Adds an operation that leaves the columns as they are."""
        return DataFrame([*self._operations, {name: arguments}], self._keys, self._columns, self._labels)

    def _flat(self, what: str) -> List[Operation]:
        """The operations of a frame without keys."""
        if self._keys:
            raise NotImplementedError(f"`{what}` needs the keys as columns: call reset_index() first")
        return self._operations

    def _present(self, table: "_Table") -> Any:
        if _find("pandas") is None:
            return table.dicts()
        frame = _indexed(table.pandas(), self._keys, self._labels)
        labels = [self._labels.get(column, column) for column in frame.columns]
        if labels and all(isinstance(label, tuple) for label in labels):
            frame.columns = _need("pandas", "compute").MultiIndex.from_tuples(labels)
        elif labels != list(frame.columns):
            frame.columns = labels
        return frame

    def __repr__(self) -> str:
        names = " → ".join(next(iter(operation)) for operation in self._operations)
        return f"<DataFrame: {names}; compute() gives the rows>"

    def __getattr__(self, name: str) -> "Series":
        if name.startswith("_"):
            raise AttributeError(name)
        if name in _NOT_HERE:
            raise AttributeError(f"there is no `{name}` here: {_NOT_HERE[name]}")
        return self._column(name)

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"write df[{name!r}] = …, which adds a column")

    def _column(self, name: str) -> "Series":
        return Series(self, _sql_name(name), name, column=name, uses=frozenset([name]))

    def __getitem__(self, key: Any) -> Any:
        if isinstance(key, str):
            return self._column(key)
        if isinstance(key, Series):
            return DataFrame(_where(self._operations, key), self._keys, self._columns, self._labels)
        if isinstance(key, (list, tuple)) or type(key).__name__ == "Index":
            columns = _names(key, "df[[…]]")
            if not columns:
                raise ValueError("df[[…]] needs at least one name of a column")
            return DataFrame([*self._operations, {"select": {"columns": [*self._keys, *columns]}}], self._keys, columns, self._labels)
        raise TypeError(f"df[…] takes a name, a list of names or a condition such as df.x > 3, and not {key!r}")

    def __setitem__(self, name: str, value: Any) -> None:
        self.__dict__.update(self.assign(**{name: value}).__dict__)

    def __iter__(self) -> Iterator[str]:
        return iter(list(self.columns))

    def __contains__(self, name: object) -> bool:
        return name in list(self.columns)

    def copy(self) -> "DataFrame":
        """The same frame, so that `df["y"] = …` on one of them leaves the other one as it is."""
        return DataFrame(self._operations, self._keys, self._columns, self._labels)

    # What it is.

    @property
    def columns(self) -> Any:
        """The names of the columns, as pandas' Index. Looks at the files."""
        if self._columns:
            names: List[Any] = [self._labels.get(column, column) for column in self._columns]
        else:
            names = [row[0] for row in _client().run([*self._operations, {"columns": {}}]).rows()]
        pandas = _find("pandas")
        return names if pandas is None else pandas.Index(names)

    @property
    def dtypes(self) -> Any:
        """The types of the columns, as a Series of pandas' types (without pandas: as a dict of words). Looks at the files.

        Integers and truth values are `int64` and `bool` here, although a column with missing values is computed as `Int64` or `boolean`.
        """
        types = {name: dtype for name, dtype in self._types().items() if name not in self._keys}
        pandas = _find("pandas")
        if pandas is None:
            return types
        found = [_pandas_type(dtype, pandas) for dtype in types.values()]
        return pandas.Series(found, index=list(types), dtype="object")

    def _types(self) -> Dict[str, str]:
        return {name: dtype for name, dtype in _client().run([*self._operations, {"dtypes": {}}]).rows()}

    def items(self) -> Iterator[Tuple[str, "Series"]]:
        """The columns one after the other, as pairs of a name and a lazy column."""
        for name in list(self._columns or self.columns):
            yield name, self._column(name)

    # Rows.

    def head(self, n: int = 5, npartitions: int = 1, compute: bool = True) -> Any:
        """The first rows, computed at once unless `compute=False`. Reads the first `npartitions` partitions only; −1 for all."""
        frame = self._with("head", n=_whole(n, "n"), partitions=_partitions(npartitions))
        return frame.compute() if compute else frame

    def tail(self, n: int = 5, compute: bool = True) -> Any:
        """The last rows, of the last partition, computed at once unless `compute=False`."""
        frame = self._with("tail", n=_whole(n, "n"))
        return frame.compute() if compute else frame

    def query(self, predicate: str) -> "DataFrame":
        """The rows for which a predicate in SQL is true, such as `"x > 3 and name = 'Ada'"`. `==` may stand for `=`.

        Differs from pandas: a comparison with a missing value is never true, not even `<>`.
        """
        if not isinstance(predicate, str):
            raise TypeError(f"query takes a text, and not {predicate!r}; a condition made of columns is written df[df.x > 3]")
        _refuse_chains(predicate)
        return self._with("query", predicate=predicate)

    def isin(self, values: Any) -> "DataFrame":
        """Whether each value is among `values`, for all columns."""
        return DataFrame([*self._flat("isin"), {"isin": {"values": _values(values)}}])

    def sort_values(
        self, by: Any, ascending: Union[bool, Sequence[bool]] = True, na_position: str = "last", sort_function_kwargs: Optional[Mapping[str, Any]] = None
    ) -> "DataFrame":
        """The rows in the order of one column or several. Rows with equal keys keep their order, and missing values come last."""
        keys = _names(by, "sort_values")
        ways = [ascending] if isinstance(ascending, bool) else list(ascending)
        if not all(isinstance(way, bool) for way in ways) or len(ways) not in (1, len(keys)):
            raise ValueError("`ascending` is True or False, or a list with one of them for each key")
        _only(na_position, ("last",), "na_position", "missing values come last")
        _only(sort_function_kwargs, (None, {"kind": "stable"}, {"kind": "mergesort"}), "sort_function_kwargs", "rows with equal keys always keep their order")
        return self._with("sort_values", by=keys, ascending=ways)

    def dropna(self, how: str = "any", subset: Any = None) -> "DataFrame":
        """Without the rows in which a value is missing (`how="any"`), or in which all are (`how="all"`)."""
        self._flat("dropna")
        chosen = {} if subset is None else {"subset": _names(subset, "subset")}
        return self._with("dropna", how=_one_of(how, ("any", "all"), "how"), **chosen)

    def persist(self) -> "DataFrame":
        """The same frame, whose rows are computed once for all that follows in one computation."""
        return self._with("persist")

    def sql(self, query: str) -> "DataFrame":
        """The result of a query in SQL on this frame, which is the table `df`."""
        return DataFrame([*self._flat("sql"), {"sql": {"query": str(query)}}])

    def merge(
        self, right: "DataFrame", how: str = "inner", on: Any = None, left_on: Any = None, right_on: Any = None, suffixes: Sequence[str] = ("_x", "_y")
    ) -> "DataFrame":
        """Joins with another frame on columns: those of `on`, or `left_on` and `right_on`, or all that both have.

        `how` is `inner`, `left`, `right` or `outer`. A missing key matches a missing key. The order of the rows may differ from Dask's.
        """
        if not isinstance(right, DataFrame):
            raise TypeError(f"merge takes a frame of this module, and not {right!r}: write it to a file that the workers can read")
        _only(tuple(suffixes), (("_x", "_y"),), "suffixes", "columns that both have get _x and _y; rename them before")
        _one_of(how, ("inner", "left", "right", "outer"), "how")
        if on is not None and (left_on is not None or right_on is not None):
            raise ValueError("give either `on`, or `left_on` and `right_on`")
        if on is None and left_on is None and right_on is None:
            others = set(right.columns)
            on = [column for column in self.columns if column in others]
            if not on:
                raise ValueError("the frames have no column in common: give `left_on` and `right_on`")
        left_keys = _names(left_on if on is None else on, "the key of a merge")
        right_keys = _names(right_on if on is None else on, "the key of a merge")
        if len(left_keys) != len(right_keys) or not left_keys:
            raise ValueError("give as many `left_on` as `right_on`, and at least one")
        merge = {"right": right._flat("merge"), "how": how, "left_on": left_keys, "right_on": right_keys}
        return DataFrame([*self._flat("merge"), {"merge": merge}])

    # Columns.

    def assign(self, /, **columns: Any) -> "DataFrame":
        """Adds or replaces columns, one after the other: `df.assign(y=df.x * 2, z=lambda df: df.y + 1)`.

        A value is a column of this frame, a constant, or a function that gets the frame at once and gives one of these.
        For an expression in SQL: `df.assign(y=df.apply("x * 2"))`.
        """
        if not columns:
            raise ValueError("nothing is assigned: df.assign(y=df.x * 2)")
        frame = self
        for name, value in columns.items():
            frame = frame._assigned(name, value(frame) if callable(value) and not isinstance(value, _Lazy) else value)
        return frame

    def _assigned(self, name: str, value: Any) -> "DataFrame":
        if not isinstance(name, str):
            raise TypeError(f"the name of a column is a text, and not {name!r}")
        if name in self._keys:
            raise NotImplementedError(f"{name!r} is a key: call reset_index() first")
        columns = tuple(dict.fromkeys([*self._columns, name])) if self._columns else ()
        if isinstance(value, Series) and value._filled is not None:
            before, fill = value._filled
            plain = self if before._column == name and before._base == self._operations else self._assigned(name, before)
            return plain._with("fillna", value=fill, columns=[name])
        if isinstance(value, DataFrame) or isinstance(value, (list, dict)) or type(value).__module__.startswith("pandas"):
            raise TypeError("a column is made of columns of the same frame, such as df.x * 2; other rows are joined by merge")
        sql = value._on(self._operations) if isinstance(value, Series) else _sql_value(_scalar(value))
        return DataFrame([*self._operations, {"assign": {"columns": [[name, sql]]}}], self._keys, columns, self._labels)

    def apply(self, expression: str, axis: Union[int, str] = 1, name: Optional[str] = None) -> "Series":
        """A column that an expression in SQL computes from each row: `df.apply("x * 2 + length(name)")`.

        The column is named `apply` unless `name` says otherwise. A Python function is refused, because no code travels.
        """
        _refuse_function(expression)
        if not isinstance(expression, str):
            raise TypeError(f"apply takes an expression in SQL, and not {expression!r}")
        _only(axis, (1, "columns"), "axis", "an expression is computed from the columns of each row: axis=1")
        # A comment in the expression ends with its line.
        return Series(self, f"({expression}\n)" if "--" in expression else f"({expression})", name or "apply", raw=expression)

    def drop(self, labels: Any = None, axis: Union[int, str] = 0, columns: Any = None) -> "DataFrame":
        """Without these columns: `df.drop(columns=["x"])`, `df.drop("x", axis=1)`."""
        if (labels is None) == (columns is None):
            raise ValueError("name the columns: df.drop(columns=[\"x\"])")
        if columns is None:
            _only(axis, (1, "columns"), "axis", "rows have no labels; df[df.x > 3] leaves rows out")
        gone = _names(labels if columns is None else columns, "drop")
        if set(gone) & set(self._keys):
            raise NotImplementedError("keys cannot be dropped: call reset_index() first")
        left = [column for column in self._columns if column not in gone]
        return DataFrame([*self._operations, {"drop": {"columns": gone}}], self._keys, left, self._labels)

    def rename(self, columns: Union[Mapping[str, str], Callable[[str], str]]) -> "DataFrame":
        """Other names for columns: `df.rename(columns={"old": "new"})`, or a function from old to new names. An old name that does not exist is no error."""
        if callable(columns):
            columns = {name: columns(name) for name in list(self._columns or self.columns)}
        if not isinstance(columns, Mapping):
            raise TypeError("rename takes a map of names: df.rename(columns={\"old\": \"new\"})")
        names = {old: new for old, new in columns.items() if old != new}
        _names(list(names) + list(names.values()), "rename")
        if not names:
            return self.copy()
        keys = [names.get(key, key) for key in self._keys]
        labels = {column: label for column, label in self._labels.items() if column not in names}
        return DataFrame([*self._operations, {"rename": {"columns": names}}], keys, [names.get(column, column) for column in self._columns], labels)

    def fillna(self, value: Any) -> "DataFrame":
        """A value in place of missing ones: in all columns whose type can hold it, or `{"x": 0, "name": "?"}` for each column."""
        if isinstance(value, Mapping):
            frame = self.copy()
            for column, one in value.items():
                frame = frame._with("fillna", value=_fill(one), columns=_names(column, "fillna"))
            return frame
        self._flat("fillna")
        return self._with("fillna", value=_fill(value))

    def reset_index(self) -> "DataFrame":
        """The keys of a `groupby` as columns. Without keys, nothing changes: rows have no labels here."""
        return DataFrame(self._operations)

    # Groups and aggregates.

    def groupby(self, by: Any, sort: Optional[bool] = None, dropna: Optional[bool] = None) -> "GroupBy":
        """Groups the rows by the values of one column or several. Groups come in the order of their keys; rows with a missing key are left out."""
        _only(sort, (None, True), "sort", "groups always come in the order of their keys")
        _only(dropna, (None, True), "dropna", "rows with a missing key are always left out; df.fillna({\"name\": \"?\"}) gives them one")
        keys = _names(by, "groupby")
        if not keys:
            raise ValueError("groupby needs at least one key")
        self._flat("groupby")
        return GroupBy(self, keys)

    def _reduced(self, function: str, numeric_only: Optional[bool]) -> "_Row":
        by_default = function in _NUMERIC_ONLY
        columns = list(self._columns) if self._keys else []
        if numeric_only is not None and not isinstance(numeric_only, bool):
            raise TypeError(f"numeric_only is True or False, and not {numeric_only!r}")
        if numeric_only is not None and numeric_only != by_default:
            types = self._types()
            columns = [name for name in types if name not in self._keys and (not numeric_only or _is_number(types[name]))]
            if not columns:
                raise DataFrameError(f"{function}: the frame has no column of numbers", "bad-job")
        return _Row([*self._operations, {function: {"columns": columns} if columns else {}}])

    def max(self, numeric_only: bool = False) -> "_Row":
        """The largest value of each column."""
        return self._reduced("max", numeric_only)

    def min(self, numeric_only: bool = False) -> "_Row":
        """The smallest value of each column."""
        return self._reduced("min", numeric_only)

    def sum(self, numeric_only: bool = True) -> "_Row":
        """The sum of each column of numbers; 0 for no value."""
        return self._reduced("sum", numeric_only)

    def mean(self, numeric_only: bool = True) -> "_Row":
        """The mean of each column of numbers."""
        return self._reduced("mean", numeric_only)

    def std(self, numeric_only: bool = True, ddof: int = 1) -> "_Row":
        """The standard deviation of each column of numbers, with n − 1."""
        _only(ddof, (1,), "ddof", "deviations are computed with n − 1")
        return self._reduced("std", numeric_only)

    def var(self, numeric_only: bool = True, ddof: int = 1) -> "_Row":
        """The variance of each column of numbers, with n − 1."""
        _only(ddof, (1,), "ddof", "variances are computed with n − 1")
        return self._reduced("var", numeric_only)

    def count(self, numeric_only: bool = False) -> "_Row":
        """The number of values of each column that are not missing."""
        return self._reduced("count", numeric_only)

    def nunique(self) -> "_Row":
        """The number of distinct values of each column, without missing ones."""
        return self._reduced("nunique", None)

    def describe(self) -> "DataFrame":
        """count, mean, std, min, quartiles and max of each column of numbers."""
        chosen = {"columns": list(self._columns)} if self._keys else {}
        return DataFrame([*self._operations, {"describe": chosen}], [_STATISTIC], self._columns if self._keys else (), {_STATISTIC: None})

    def value_counts(self, column: str) -> "Series":
        """How often each value of a column occurs, most frequent first."""
        (name,) = _names(column, "value_counts")
        return self._column(name).value_counts()


class Series(_Rows):
    """A lazy column: an expression on the rows of a frame.

    `+ - * / // % **`, comparisons and `& | ~` make other columns. As in pandas, a missing value is unequal to everything, and no
    other comparison with it is true.
    """

    def __init__(
        self, frame: DataFrame, sql: _Str, name: Optional[_Str], *, column: Optional[_Str] = None, uses: Optional[FrozenSet[_Str]] = None,
        raw: Optional[_Str] = None, made_by: Optional[Operation] = None, filled: Optional[Tuple["Series", Any]] = None,
    ) -> None:
        # A frame can get further columns later.
        self._frame = frame.copy()
        self._base = list(frame._operations)
        self._keys = frame._keys
        self._sql = sql
        # What pandas calls it.
        self._name = name
        # The column of the frame, if it is one as it is.
        self._column = column
        # The columns that the expression needs; None if this is not known.
        self._uses = uses
        # The expression as the user wrote it.
        self._raw = raw
        # The operation that makes this column alone from the frame, where there is one besides `apply`.
        self._made_by = made_by
        # The column in which missing values are replaced, and the value.
        self._filled = filled
        # Whether the values are known to be texts, which `+` puts together.
        self._is_text = False

    # What it becomes.

    def _made(self) -> Tuple[List[Operation], _Str]:
        """The operations that make a frame of the keys and this column, and what the column is named there."""
        if self._filled is not None:
            operations, column = self._filled[0]._made()
            return [*operations, {"fillna": {"value": self._filled[1], "columns": [column]}}], column
        if self._keys:
            return self._made_beside_keys()
        if self._made_by is not None:
            column = str(next(iter(self._made_by.values())).get("as") or next(iter(self._made_by.values()))["column"])
            return [*self._base, self._made_by], column
        if self._column is not None:
            alone = self._frame._columns == (self._column,)
            return list(self._base) if alone else [*self._base, {"select": {"columns": [self._column]}}], self._column
        column = self._name or "apply"
        named = {} if column == "apply" else {"as": column}
        return [*self._base, {"apply": {"expression": self._raw or self._sql, **named}}], column

    def _made_beside_keys(self) -> Tuple[List[Operation], _Str]:
        column, operations = self._column, list(self._base)
        if column is None:
            column = self._name or "apply"
            while column in self._keys:
                column += "_"
            operations.append({"assign": {"columns": [[column, self._sql]]}})
            return [*operations, {"select": {"columns": [*self._keys, column]}}], column
        if self._frame._columns != (column,):
            operations.append({"select": {"columns": [*self._keys, column]}})
        return operations, column

    def _list(self) -> List[Operation]:
        return self._made()[0]

    def _has_keys(self) -> bool:
        return bool(self._keys)

    def _present(self, table: "_Table") -> Any:
        if _find("pandas") is None:
            width = len(self._keys)
            rows = table.rows()
            return {row[0] if width == 1 else row[:width]: row[width] for row in rows} if width else [row[0] for row in rows]
        frame = _indexed(table.pandas(), self._keys, self._frame._labels)
        return frame.iloc[:, 0].rename(self._name)

    def _on(self, operations: List[Operation]) -> _Str:
        """The expression for another state of the frame: the same one, or a later one in which what it needs is unchanged."""
        since = operations[len(self._base):]
        if operations[: len(self._base)] == self._base and all(_leaves(operation, self._uses) for operation in since):
            return self._sql
        raise ValueError("the column belongs to another frame, or what it is made of has changed: take it from the frame itself, or join frames with merge")

    def _computed(self, sql: _Str, uses: Optional[FrozenSet[_Str]] = frozenset(), name: Any = ...) -> "Series":
        """Another column of the same frame."""
        together = None if self._uses is None or uses is None else self._uses | uses
        return Series(self._frame_here(), sql, self._name if name is ... else name, uses=together)

    def _frame_here(self) -> DataFrame:
        return DataFrame(self._base, self._keys, self._frame._columns, self._frame._labels)

    def _alone(self, name: Any = ...) -> "Series":
        """This column as the column of a frame of its own."""
        operations, column = self._made()
        frame = DataFrame(operations, self._keys, [column], self._frame._labels)
        return Series(frame, _sql_name(column), self._name if name is ... else name, column=column, uses=frozenset([column]))

    def _moved(self, operations: List[Operation]) -> "Series":
        """The same expression on other rows."""
        frame = DataFrame(operations, self._keys, self._frame._columns, self._frame._labels)
        filled = None if self._filled is None else (self._filled[0]._moved(operations), self._filled[1])
        moved = Series(frame, self._sql, self._name, column=self._column, uses=self._uses, raw=self._raw, made_by=self._made_by, filled=filled)
        return moved._as_text(self._is_text)

    def __repr__(self) -> _Str:
        return f"<Series {self._name!r}: {self._sql}; compute() gives the values>"

    def __getattr__(self, name: _Str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        raise AttributeError(f"a column has no `{name}`" + (f": {_NOT_HERE[name]}" if name in _NOT_HERE else ""))

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise AttributeError(f"a frame has no operation `{self._name}`; a column of this name is df[{self._name!r}], and help(DataFrame) lists the operations")

    def __iter__(self) -> Iterator[Any]:
        raise TypeError("the values of a column are not here: compute() gives them")

    def __getitem__(self, mask: Any) -> "Series":
        if not isinstance(mask, Series):
            raise TypeError(f"df.x[…] takes a condition such as df.x > 3, and not {mask!r}")
        return self._moved(_where(self._base, mask))

    # Expressions.

    def _binary(self, other: Any, write: Callable[[_Str, _Str], _Str], swapped: bool = False, compares: bool = False) -> "Series":
        left: Series = self
        value, name = _scalar(other), self._name
        if isinstance(value, Series):
            if len(value._base) > len(left._base):
                mine, theirs, left = left._on(value._base), value._sql, value
            else:
                mine, theirs = left._sql, value._on(left._base)
            name = self._name if self._name == value._name else None
            found = None if self._uses is None or value._uses is None else self._uses | value._uses
            return Series(left._frame_here(), write(*((theirs, mine) if swapped else (mine, theirs))), name, uses=found)
        if compares and _plain(value) is None:
            raise ValueError("missing values are found by a method: df.x.isna() or df.x.notna()")
        mine, theirs = self._sql, _sql_value(value)
        return self._computed(write(*((theirs, mine) if swapped else (mine, theirs))), name=name)

    def _compared(self, other: Any, sign: _Str) -> "Series":
        # As in pandas, a missing value is unequal to everything, and no other comparison with it is true.
        write = (lambda a, b: f"({a} IS DISTINCT FROM {b})") if sign == "<>" else (lambda a, b: f"(({a} {sign} {b}) IS TRUE)")
        return self._binary(other, write, compares=True)

    def __eq__(self, other: Any) -> "Series":  # type: ignore[override]
        return self._compared(other, "=")

    def __ne__(self, other: Any) -> "Series":  # type: ignore[override]
        return self._compared(other, "<>")

    __hash__ = None  # type: ignore[assignment]

    def __lt__(self, other: Any) -> "Series":
        return self._compared(other, "<")

    def __le__(self, other: Any) -> "Series":
        return self._compared(other, "<=")

    def __gt__(self, other: Any) -> "Series":
        return self._compared(other, ">")

    def __ge__(self, other: Any) -> "Series":
        return self._compared(other, ">=")

    def __add__(self, other: Any) -> "Series":
        return self._added(other, False)

    def __radd__(self, other: Any) -> "Series":
        return self._added(other, True)

    def _added(self, other: Any, swapped: bool) -> "Series":
        is_text = self._is_text or isinstance(other, str) or (isinstance(other, Series) and other._is_text)
        return self._binary(other, _signed("||" if is_text else "+"), swapped)._as_text(is_text)

    def _as_text(self, is_text: bool = True) -> "Series":
        self._is_text = is_text
        return self

    def __sub__(self, other: Any) -> "Series":
        return self._binary(other, _signed("-"))

    def __rsub__(self, other: Any) -> "Series":
        return self._binary(other, _signed("-"), swapped=True)

    def __mul__(self, other: Any) -> "Series":
        return self._binary(other, _signed("*"))

    def __rmul__(self, other: Any) -> "Series":
        return self._binary(other, _signed("*"), swapped=True)

    def __truediv__(self, other: Any) -> "Series":
        return self._binary(other, _divided)

    def __rtruediv__(self, other: Any) -> "Series":
        return self._binary(other, _divided, swapped=True)

    def __floordiv__(self, other: Any) -> "Series":
        return self._binary(other, lambda a, b: f"floor{_divided(a, b)}")

    def __rfloordiv__(self, other: Any) -> "Series":
        return self._binary(other, lambda a, b: f"floor{_divided(a, b)}", swapped=True)

    def __mod__(self, other: Any) -> "Series":
        # In Python the result has the sign of the divisor.
        return self._binary(other, lambda a, b: f"(({a} % {b} + {b}) % {b})")

    def __rmod__(self, other: Any) -> "Series":
        return self._binary(other, lambda a, b: f"(({a} % {b} + {b}) % {b})", swapped=True)

    def __pow__(self, other: Any) -> "Series":
        return self._binary(other, lambda a, b: f"power({a}, {b})")

    def __rpow__(self, other: Any) -> "Series":
        return self._binary(other, lambda a, b: f"power({a}, {b})", swapped=True)

    def __and__(self, other: Any) -> "Series":
        return self._binary(other, _signed("AND"))

    def __rand__(self, other: Any) -> "Series":
        return self._binary(other, _signed("AND"), swapped=True)

    def __or__(self, other: Any) -> "Series":
        return self._binary(other, _signed("OR"))

    def __ror__(self, other: Any) -> "Series":
        return self._binary(other, _signed("OR"), swapped=True)

    def __invert__(self) -> "Series":
        return self._computed(f"(NOT {self._sql})")

    def __neg__(self) -> "Series":
        return self._computed(f"(- {self._sql})")

    def __pos__(self) -> "Series":
        return self._computed(self._sql)

    def __abs__(self) -> "Series":
        return self.abs()

    # Methods that look at one value at a time.

    def abs(self) -> "Series":
        """The values without their signs."""
        return self._computed(f"abs({self._sql})")

    def round(self, decimals: int = 0) -> "Series":
        """The values with so many digits after the point. A half is rounded away from 0, whereas pandas rounds it to the even digit."""
        digits = _plain(decimals)
        if not isinstance(digits, int) or isinstance(digits, bool):
            raise TypeError(f"decimals is a whole number, and not {decimals!r}")
        return self._computed(f"round({self._sql}, {digits})")

    def isin(self, values: Any) -> "Series":
        """Whether each value is among `values`. A missing value is found by None.

        Within an expression values are compared as SQL does: the text "1" finds the number 1, and a text that is no number fails there.
        """
        listed = _values(values)
        found = [_among(self._sql, [value for value in listed if isinstance(value, str)])]
        found.append(_among(self._sql, [value for value in listed if value is not None and not isinstance(value, str)]))
        found = [sql for sql in found if sql] or ["false"]
        missing = "IS NULL OR" if None in listed else "IS NOT NULL AND"
        made_by = None if self._column is None or self._keys else {"isin": {"values": listed, "column": self._column}}
        series = self._computed(f"({self._sql} {missing} ({' OR '.join(found)}))")
        series._made_by = made_by
        return series

    def between(self, left: Any, right: Any, inclusive: _Str = "both") -> "Series":
        """Whether each value lies between two values, which count as inside unless `inclusive` says otherwise."""
        _one_of(inclusive, ("both", "neither", "left", "right"), "inclusive")
        lower: Series = self >= left if inclusive in ("both", "left") else self > left
        upper: Series = self <= right if inclusive in ("both", "right") else self < right
        return lower & upper

    def isna(self) -> "Series":
        """Whether each value is missing."""
        return self._computed(f"({self._sql} IS NULL)")

    isnull = isna

    def notna(self) -> "Series":
        """Whether each value is there."""
        return self._computed(f"({self._sql} IS NOT NULL)")

    notnull = notna

    def fillna(self, value: Any) -> "Series":
        """A value, or a value of another column, in place of missing ones. A value that is not of the column's type fails the computation."""
        value = _scalar(value)
        if isinstance(value, Series):
            return self._binary(value, lambda a, b: f"coalesce({a}, {b})")._named(self._name)
        series = self._computed(f"coalesce({self._sql}, {_sql_value(value)})")
        series._filled = (self, _fill(value))
        return series

    def where(self, condition: "Series", other: Any = None) -> "Series":
        """The values for which a condition is true, and `other` in place of the rest: a value, a column, or None."""
        if not isinstance(condition, Series):
            raise TypeError(f"a condition such as df.x > 3 is needed, and not {condition!r}")
        chosen = self._binary(condition, lambda a, b: f"CASE WHEN {b} THEN {a}")
        if isinstance(other, Series):
            return chosen._binary(other, lambda a, b: f"({a} ELSE {b} END)")._named(self._name)
        return chosen._computed(f"({chosen._sql} ELSE {_sql_value(_scalar(other))} END)", name=self._name)

    def mask(self, condition: "Series", other: Any = None) -> "Series":
        """`other` in place of the values for which a condition is true."""
        turned = condition._computed(f"({condition._sql} IS NOT TRUE)") if isinstance(condition, Series) else condition
        return self.where(turned, other)

    def astype(self, dtype: Any) -> "Series":
        """The values in another type: `bool`, `date`, `datetime`, `float64`, `int64` or `string`."""
        wanted = _dtype(dtype)
        return self._computed(f"CAST({self._sql} AS {_SQL_TYPES[wanted]})")._as_text(wanted == "string")

    def apply(self, function: _Str) -> "Series":
        """The result of a function that the workers have, by its name: `df.name.apply("upper")`. README.md lists them.

        A Python function is refused, because no code travels.
        """
        _refuse_function(function)
        if not isinstance(function, str) or not re.fullmatch(r"\w+", function):
            raise ValueError(f"apply of a column takes the name of a function, such as \"upper\", and not {function!r}; an expression is applied to the frame: df.apply(\"x * 2\")")
        series = self._computed(_FUNCTIONS.get(function, function + "({})").replace("{}", self._sql))
        if self._column is not None and not self._keys:
            series._made_by = {"apply": {"function": function, "column": self._column, "as": self._name or "apply"}}
        return series

    @property
    def str(self) -> "_Text":
        """The methods of texts: `df.name.str.upper()`."""
        return _Text(self)

    @property
    def dt(self) -> "_Time":
        """The parts of dates and times: `df.day.dt.year`."""
        return _Time(self)

    # Other shapes.

    @property
    def name(self) -> Any:
        """The name that pandas shows."""
        return self._name

    def _named(self, name: Any) -> "Series":
        series = self._moved(self._base)
        series._name = name
        return series

    def rename(self, name: Any) -> "Series":
        """The same values under another name."""
        if name is not None and not isinstance(name, str):
            raise TypeError(f"a name is a text, and not {name!r}")
        return self._named(name)

    def to_frame(self, name: Any = None) -> DataFrame:
        """A frame of this column."""
        series = self if name is None else self.rename(name)
        operations, column = series._made()
        wanted = series._name or column
        frame = DataFrame(operations, self._keys, [column], self._frame._labels)
        return frame if wanted == column else frame.rename(columns={column: wanted})

    def reset_index(self, name: Any = None) -> DataFrame:
        """A frame of the keys and this column."""
        return self.to_frame(name).reset_index()

    def head(self, n: int = 5, npartitions: int = 1, compute: bool = True) -> Any:
        """The first values, computed at once unless `compute=False`. Reads the first `npartitions` partitions only; −1 for all."""
        return self._rows("head", compute, n=_whole(n, "n"), partitions=_partitions(npartitions))

    def tail(self, n: int = 5, compute: bool = True) -> Any:
        """The last values, of the last partition, computed at once unless `compute=False`."""
        return self._rows("tail", compute, n=_whole(n, "n"))

    def dropna(self) -> "Series":
        """Without missing values."""
        alone = self._alone()
        return alone[alone.notna()] if self._keys else alone._moved([*alone._base, {"dropna": {}}])

    def persist(self) -> "Series":
        """The same column, whose values are computed once for all that follows in one computation."""
        alone = self._alone()
        return alone._moved([*alone._base, {"persist": {}}])

    def _rows(self, operation: Any, compute: bool, **arguments: Any) -> Any:
        alone = self._alone()
        series = alone._moved([*alone._base, {operation: arguments}])
        return series.compute() if compute else series

    # Aggregates.

    def _aggregated(self, function: Any) -> List[Operation]:
        if self._column is not None and self._made_by is None:
            return [*self._base, {function: {"columns": [self._column]}}]
        operations, column = self._made()
        return [*operations, {function: {"columns": [column]}}]

    def max(self) -> "Scalar":
        """The largest value."""
        return Scalar(self._aggregated("max"))

    def min(self) -> "Scalar":
        """The smallest value."""
        return Scalar(self._aggregated("min"))

    def sum(self) -> "Scalar":
        """The sum; 0 for no value."""
        return Scalar(self._aggregated("sum"))

    def mean(self) -> "Scalar":
        """The mean."""
        return Scalar(self._aggregated("mean"))

    def std(self, ddof: int = 1) -> "Scalar":
        """The standard deviation, with n − 1."""
        _only(ddof, (1,), "ddof", "deviations are computed with n − 1")
        return Scalar(self._aggregated("std"))

    def var(self, ddof: int = 1) -> "Scalar":
        """The variance, with n − 1."""
        _only(ddof, (1,), "ddof", "variances are computed with n − 1")
        return Scalar(self._aggregated("var"))

    def count(self) -> "Scalar":
        """The number of values that are not missing."""
        return Scalar(self._aggregated("count"))

    def nunique(self) -> "Scalar":
        """The number of distinct values, without missing ones."""
        return Scalar(self._aggregated("nunique"))

    def describe(self) -> "Series":
        """count, mean, std, min, quartiles and max."""
        operations = self._aggregated("describe")
        column = operations[-1]["describe"]["columns"][0]
        return DataFrame(operations, [_STATISTIC], [column], {_STATISTIC: None})._column(column)._named(self._name)

    def _for_values(self) -> Tuple[List[Operation], _Str]:
        """A frame without keys that has this column, under a name that no count takes."""
        if self._column not in (None, "count") and self._made_by is None and not self._keys:
            return self._base, _there(self._column)
        operations, column = self._alone()._made()
        wanted = "value" if column in ("count", "apply") else column
        return (operations, column) if wanted == column else ([*operations, {"rename": {"columns": {column: wanted}}}], wanted)

    def unique(self) -> "Series":
        """The distinct values, in the order of their first appearance."""
        operations, column = self._for_values()
        return DataFrame([*operations, {"unique": {"column": column}}], (), [column])._column(column)._named(self._name)

    def value_counts(self) -> "Series":
        """How often each value occurs, most frequent first, with the values as the index. Missing values are not counted."""
        operations, column = self._for_values()
        return DataFrame([*operations, {"value_counts": {"column": column}}], [column], ["count"], {column: self._name})._column("count")


class _Text:
    """The methods of texts."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def _call(self, sql: str) -> Series:
        return self._series._computed(sql)

    def len(self) -> Series:
        """The number of characters."""
        return self._call(f"CAST(character_length({self._series._sql}) AS BIGINT)")

    def lower(self) -> Series:
        """In small letters."""
        return self._call(f"lower({self._series._sql})")._as_text()

    def upper(self) -> Series:
        """In capital letters."""
        return self._call(f"upper({self._series._sql})")._as_text()

    def strip(self) -> Series:
        """Without spaces and line ends on both sides."""
        return self._call(f"btrim({self._series._sql}, {_sql_value(_SPACES)})")._as_text()

    def lstrip(self) -> Series:
        """Without spaces and line ends at the beginning."""
        return self._call(f"ltrim({self._series._sql}, {_sql_value(_SPACES)})")._as_text()

    def rstrip(self) -> Series:
        """Without spaces and line ends at the end."""
        return self._call(f"rtrim({self._series._sql}, {_sql_value(_SPACES)})")._as_text()

    def startswith(self, pat: str) -> Series:
        """Whether it begins with a text."""
        return self._call(f"starts_with({self._series._sql}, {_sql_text(pat)})")

    def endswith(self, pat: str) -> Series:
        """Whether it ends with a text."""
        return self._call(f"ends_with({self._series._sql}, {_sql_text(pat)})")

    def contains(self, pat: str, regex: bool = True) -> Series:
        """Whether it contains what a regular expression describes (in the syntax of Rust's `regex`), or a text if `regex=False`."""
        sql = self._series._sql
        return self._call(f"regexp_like({sql}, {_sql_text(pat)})" if regex else f"(strpos({sql}, {_sql_text(pat)}) > 0)")

    def replace(self, pat: str, repl: str, regex: bool = False) -> Series:
        """With one text in place of another, wherever it is found."""
        sql, pattern, by = self._series._sql, _sql_text(pat), _sql_text(repl)
        return self._call(f"regexp_replace({sql}, {pattern}, {by}, 'g')" if regex else f"replace({sql}, {pattern}, {by})")._as_text()


class _Time:
    """The parts of dates and times."""

    def __init__(self, series: Series) -> None:
        self._series = series

    def _part(self, part: str) -> Series:
        return self._series._computed(f"date_part('{part}', {self._series._sql})")

    @property
    def year(self) -> Series:
        """The year."""
        return self._part("year")

    @property
    def month(self) -> Series:
        """The month; January is 1."""
        return self._part("month")

    @property
    def day(self) -> Series:
        """The day of the month."""
        return self._part("day")

    @property
    def hour(self) -> Series:
        """The hour."""
        return self._part("hour")

    @property
    def minute(self) -> Series:
        """The minute."""
        return self._part("minute")

    @property
    def second(self) -> Series:
        """The second."""
        return self._part("second")

    @property
    def quarter(self) -> Series:
        """The quarter of the year, from 1 on."""
        return self._part("quarter")

    @property
    def dayofyear(self) -> Series:
        """The day of the year, from 1 on."""
        return self._part("doy")

    @property
    def dayofweek(self) -> Series:
        """The day of the week; Monday is 0."""
        return self._series._computed(f"((date_part('dow', {self._series._sql}) + 6) % 7)")

    weekday = dayofweek


class Scalar(_Lazy):
    """One lazy value, such as `df.x.mean()`. Arithmetic with other values stays lazy; in an expression of columns it is computed at once."""

    def __init__(self, operations: List[Operation], value: Optional[Callable[[], Any]] = None) -> None:
        self._operations = operations
        self._value = value

    def compute(self) -> Any:
        """Computes the value. A missing value is NaN, NaT or NA with pandas, and None without."""
        if self._value is not None:
            return self._value()
        table = _client().run(self._operations)
        return table.rows()[0][0] if _find("pandas") is None else table.pandas().iloc[0, 0]

    def __repr__(self) -> str:
        return "<Scalar; compute() gives the value>"

    def __float__(self) -> float:
        return float(self.compute())

    def __int__(self) -> int:
        return int(self.compute())

    def _binary(self, other: Any, operate: Callable[[Any, Any], Any]) -> Any:
        if isinstance(other, _Rows):
            return NotImplemented
        return Scalar([], lambda: operate(self.compute(), _scalar(other)))

    def __add__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a + b)

    def __radd__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b + a)

    def __sub__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a - b)

    def __rsub__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b - a)

    def __mul__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a * b)

    def __rmul__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b * a)

    def __truediv__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: a / b)

    def __rtruediv__(self, other: Any) -> Any:
        return self._binary(other, lambda a, b: b / a)


class _Row(_Lazy):
    """The aggregates of the columns of a frame: a Series of pandas with one value for each column, without pandas a dict."""

    def __init__(self, operations: List[Operation]) -> None:
        self._operations = operations

    @property
    def operations(self) -> List[Operation]:
        """The list of operations that the master gets."""
        return list(self._operations)

    def compute(self) -> Any:
        """Computes the aggregates."""
        table = _client().run(self._operations)
        values = list(table.rows()[0])
        pandas = _find("pandas")
        if pandas is None:
            return dict(zip(table.names, values))
        frame = table.pandas()
        kinds = {str(dtype) for dtype in frame.dtypes}
        if len(kinds) == 1:
            return pandas.Series(pandas.concat([frame.iloc[:, place] for place in range(len(frame.columns))]).array, index=frame.columns)
        exact = all(not isinstance(value, int) or abs(value) <= 1 << 53 for value in values)
        numbers = kinds <= {"int64", "int32", "uint64", "float64", "Int64"} and exact
        cells = [float("nan") if value is None and numbers else value for value in values] if numbers else [frame.iloc[0, place] for place in range(len(values))]
        return pandas.Series(cells, index=frame.columns, dtype="float64" if numbers else "object")

    def __repr__(self) -> str:
        return "<aggregates of a frame; compute() gives them>"

    def __getitem__(self, column: str) -> Scalar:
        (name,) = self._operations[-1]
        return Scalar([*self._operations[:-1], {name: {"columns": _names(column, "the aggregates of a frame")}}])


class GroupBy:
    """Rows in groups: `df.groupby("name").x.mean()`, `df.groupby(["name", "day"])[["x", "y"]].sum()`, `df.groupby("name").agg({"x": "sum"})`.

    The result has the keys as its index. `reset_index()` makes columns of them.
    """

    def __init__(self, frame: DataFrame, keys: List[str], columns: Optional[List[str]] = None, single: bool = False) -> None:
        self._frame, self._keys, self._columns, self._single = frame, keys, columns, single

    def __getitem__(self, key: Any) -> "GroupBy":
        return GroupBy(self._frame, self._keys, _names(key, "df.groupby(…)[…]"), isinstance(key, str))

    def __getattr__(self, name: str) -> "GroupBy":
        if name.startswith("_"):
            raise AttributeError(name)
        if name in ("apply", "transform", "filter", "map", "pipe"):
            raise AttributeError(f"there is no `{name}` of groups: {_LAMBDA}")
        return self[name]

    def __call__(self, *_: Any, **__: Any) -> NoReturn:
        raise AttributeError(f"groups have no aggregate `{(self._columns or [''])[0]}`: there are {', '.join(_AGGREGATES)}, agg")

    def __repr__(self) -> str:
        return f"<groups by {', '.join(self._keys)}; an aggregate such as .x.mean() gives rows>"

    def _chosen(self, function: str, numeric_only: Optional[bool]) -> List[str]:
        if self._columns is not None:
            _only(numeric_only, (None, False), "numeric_only", "the columns are chosen already")
            return self._columns
        types = self._frame._types()
        return [name for name in types if name not in self._keys and (not numeric_only or _is_number(types[name]))]

    def _each(self, function: str, numeric_only: Optional[bool] = None) -> Any:
        columns = self._chosen(function, numeric_only)
        if not columns:
            raise ValueError(f"no column is left to be aggregated by {function}")
        return self._aggregate([(function, column, column) for column in columns])

    def _aggregate(self, aggregates: List[Tuple[str, str, Any]]) -> Any:
        """Makes the frame of aggregates: function, column, and the label that pandas gets."""
        written: List[str] = []
        names: List[str] = []
        for function, column, label in aggregates:
            _one_of(function, _AGGREGATES, "an aggregate")
            call = "size()" if function == "size" else f"{function}({_in_aggregate(column)})"
            name = "size" if function == "size" else f"{function}({column})"
            if isinstance(label, str) and not self._single and ")" not in label and label == label.strip() and label not in self._keys:
                written.append(f"{call} as {label}" if re.fullmatch(r"\w+", label) else f'{call} as "{label}"')
                name = label
            else:
                written.append(call)
            names.append(name)
        if len(set(names)) != len(names):
            raise ValueError(f"two aggregates have the same name, among {', '.join(names)}")
        operations = [*self._frame._operations, {"groupby": {"by": self._keys, "agg": written}}]
        # An aggregate cannot be written with every name.
        others = {name: label for name, (_, _, label) in zip(names, aggregates) if name != label and isinstance(label, str) and label not in self._keys}
        if others and not self._single:
            operations.append({"rename": {"columns": others}})
            names = [others.get(name, name) for name in names]
        labels = {name: label for name, (_, _, label) in zip(names, aggregates) if name != label}
        frame = DataFrame(operations, self._keys, names, labels)
        if self._single and len(names) == 1:
            return frame._column(names[0])._named(aggregates[0][2])
        return frame

    def agg(self, spec: Any = None, /, **named: Any) -> Any:
        """Several aggregates: `agg("sum")`, `agg(["min", "max"])`, `agg({"x": "sum", "y": ["min", "max"]})`, `agg(total=("x", "sum"))`.

        Functions are named: count, first, last, max, mean, min, nunique, size, std, sum and var.
        """
        if (spec is None) == (not named):
            raise ValueError("give one of: a name, a list of names, a map from columns to names, or NAME=(COLUMN, FUNCTION)")
        if named:
            pairs = [(name, (self._columns[0], given) if self._single and self._columns and isinstance(given, str) else given) for name, given in named.items()]
            if not all(isinstance(given, tuple) and len(given) == 2 and all(isinstance(text, str) for text in given) for _, given in pairs):
                raise TypeError("a named aggregate is a pair: df.groupby(\"k\").agg(total=(\"x\", \"sum\")), or df.groupby(\"k\").x.agg(total=\"sum\")")
            return GroupBy(self._frame, self._keys)._aggregate([(given[1], given[0], name) for name, given in pairs])
        if isinstance(spec, Mapping):
            several = any(not isinstance(functions, str) for functions in spec.values())
            flat = [(column, function) for column, functions in spec.items() for function in _functions(functions)]
            return GroupBy(self._frame, self._keys)._aggregate([(function, column, (column, function) if several else column) for column, function in flat])
        functions = _functions(spec)
        if isinstance(spec, str):
            return self.size() if spec == "size" else self._each(spec)
        columns = self._chosen("agg", None)
        label: Callable[[str, str], Any] = lambda column, function: function if self._single else (column, function)
        return GroupBy(self._frame, self._keys, columns)._aggregate([(function, column, label(column, function)) for column in columns for function in functions])

    aggregate = agg

    def size(self) -> Series:
        """The number of rows of each group."""
        name = "size_" if "size" in self._keys else "size"
        operations = [*self._frame._operations, {"groupby": {"by": self._keys, "agg": ["size()" if name == "size" else f"size() as {name}"]}}]
        return DataFrame(operations, self._keys, [name])._column(name)._named(None)

    def count(self) -> Any:
        """The number of values that are not missing."""
        return self._each("count")

    def first(self) -> Any:
        """The first value that is not missing."""
        return self._each("first")

    def last(self) -> Any:
        """The last value that is not missing."""
        return self._each("last")

    def max(self, numeric_only: bool = False) -> Any:
        """The largest value."""
        return self._each("max", numeric_only)

    def min(self, numeric_only: bool = False) -> Any:
        """The smallest value."""
        return self._each("min", numeric_only)

    def mean(self, numeric_only: bool = False) -> Any:
        """The mean."""
        return self._each("mean", numeric_only)

    def nunique(self) -> Any:
        """The number of distinct values, without missing ones."""
        return self._each("nunique")

    def std(self, ddof: int = 1, numeric_only: bool = False) -> Any:
        """The standard deviation, with n − 1."""
        _only(ddof, (1,), "ddof", "deviations are computed with n − 1")
        return self._each("std", numeric_only)

    def sum(self, numeric_only: bool = False) -> Any:
        """The sum; 0 for no value."""
        return self._each("sum", numeric_only)

    def var(self, ddof: int = 1, numeric_only: bool = False) -> Any:
        """The variance, with n − 1."""
        _only(ddof, (1,), "ddof", "variances are computed with n − 1")
        return self._each("var", numeric_only)


_AGGREGATES = ("count", "first", "last", "max", "mean", "min", "nunique", "size", "std", "sum", "var")
_STATISTIC = "statistic"  # the column of `describe` that becomes the index
_SPACES = " \t\n\r\v\f"


def _there(column: Optional[str]) -> str:
    assert column is not None  # the caller has looked
    return column


def _indexed(frame: Any, keys: Sequence[str], labels: Mapping[str, Any]) -> Any:
    """A frame of pandas with its keys as the index."""
    if not keys:
        return frame
    frame = frame.set_index(list(keys))
    if list(keys) == [_STATISTIC] and labels.get(_STATISTIC, ...) is None:
        frame.index = frame.index.astype("str")
    frame.index.names = [labels.get(key, key) for key in keys]
    return frame


def _signed(sign: str) -> Callable[[str, str], str]:
    return lambda a, b: f"({a} {sign} {b})"


def _divided(a: str, b: str) -> str:
    # SQL divides whole numbers to a whole number, and Python does not.
    return f"(CAST({a} AS DOUBLE) / {b})"


def _sql_text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"a text is needed, and not {value!r}")
    return _sql_value(value)


def _among(sql: str, values: List[Any]) -> str:
    """Whether a value is among some of one kind; empty for none."""
    return f"{sql} IN ({', '.join(map(_sql_value, values))})" if values else ""


def _values(values: Any) -> List[Any]:
    """The values of `isin`, for JSON."""
    if isinstance(values, (str, bytes, Mapping, _Lazy)) or not isinstance(values, Iterable):
        raise TypeError(f"isin takes a list of values, and not {values!r}")
    return [_json_value(value) for value in values]


def _fill(value: Any) -> Any:
    """The value of `fillna`, for JSON."""
    filled = _json_value(value)
    if filled is None:
        raise ValueError("a missing value replaces nothing: give fillna a value")
    return filled


def _scalar(value: Any) -> Any:
    """The value of a `Scalar`, and any other value as it is."""
    return value.compute() if isinstance(value, Scalar) else value


def _partitions(given: Any) -> int:
    number = _plain(given)
    if number == -1 and not isinstance(number, bool):
        return -1
    return _whole(given, "npartitions (or -1 for all)", 1)


def _functions(given: Any) -> List[str]:
    _refuse_function(given)
    functions = [given] if isinstance(given, str) else list(given)
    for function in functions:
        _refuse_function(function)
        _one_of(function, _AGGREGATES, "an aggregate")
    return functions


def _in_aggregate(column: str) -> str:
    """A column within `mean(…)`. Quotes around it are taken off, and what is inside is taken as it is."""
    return column if re.fullmatch(r"\w+", column) else f'"{column}"'


def _is_number(dtype: str) -> bool:
    return dtype == "bool" or bool(re.match(r"u?int|float|decimal", dtype))


def _refuse_chains(predicate: str) -> None:
    """Refuses `1 < x < 3`, which Python reads as two comparisons, and SQL as a comparison of a truth value with a number."""
    try:
        tree = ast.parse(predicate.strip(), mode="eval")
    except (SyntaxError, ValueError):
        return
    if any(isinstance(node, ast.Compare) and len(node.ops) > 1 for node in ast.walk(tree)):
        raise ValueError(f"{predicate!r}: SQL has no chains of comparisons: write \"x > 1 and x < 3\" or \"x between 1 and 3\"")


def _leaves(operation: Operation, uses: Optional[FrozenSet[str]]) -> bool:
    """Whether an operation keeps rows apart, and leaves some columns as they are."""
    name, arguments = next(iter(operation.items()))
    if uses is None or name not in _KEEP_ROWS:
        return False
    columns = arguments.get("columns", [])
    if name == "select":
        return uses <= set(columns)
    if name == "assign":
        return uses.isdisjoint(column for column, _ in columns)
    if name == "rename":
        return uses.isdisjoint(columns) and uses.isdisjoint(columns.values())
    return name == "query" or bool(columns) and uses.isdisjoint(columns)


def _where(operations: List[Operation], mask: Series) -> List[Operation]:
    """Keeps the rows for which `mask` is true.

    The mask may be about an earlier state of the frame, as in `df[["name"]][df.x > 3]`, if each row has come from one row of that
    state. Then the rows are chosen there.
    """
    since = operations[len(mask._base):]
    if operations[: len(mask._base)] != mask._base or not all(next(iter(operation)) in _KEEP_ROWS for operation in since):
        raise ValueError("the condition is about another frame: df[df.x > 3] takes the columns of df itself")
    return [*mask._base, {"query": {"predicate": mask._raw or mask._sql}}, *since]


# --------------------------------------------------------------------------------------------------------------------
# Where frames come from.


def read_csv(
    path: Any, *, sep: str = ",", quotechar: str = '"', header: Any = "infer", dtype: Any = None, na_values: Any = None, keep_default_na: bool = True,
    parse_dates: Any = None, compression: Optional[str] = "infer", blocksize: Any = "default",
) -> DataFrame:
    """The rows of CSV files, in the order of their names. Nothing is read yet.

    `path` is a file, a folder, a pattern such as `"/data/*.csv"`, or a list of such. The master and the workers read it: a relative
    path begins in the folder where they run. `worker://NAME/PATH` is a file that only that worker has.

    `sep` and `quotechar` are one character each. `header=None` says that the first line is a row; the columns are then named `"0"`,
    `"1"`, … `dtype` is a map from columns to types (of Python, numpy, pandas or by name: bool, date, datetime, float64, int64,
    string); the types of other columns are inferred. `parse_dates` is a list of columns that hold dates or times. `na_values` are
    words that mean a missing value, besides those of pandas, or in their place if `keep_default_na=False`. `compression` is `infer`,
    None, `gzip` or `zstd`. `blocksize` is the size of a partition, such as `"16MiB"` or a number of bytes, and None for one a file.
    """
    paths = [os.fspath(one) for one in (path if isinstance(path, (list, tuple)) else [path])]
    if not paths:
        raise ValueError("read_csv needs at least one path")
    options: Dict[str, Any] = {"paths": paths}
    for key, default, given in (("separator", ",", sep), ("quote", '"', quotechar)):
        if not isinstance(given, str) or len(given) != 1 or not given.isascii():
            raise ValueError(f"{'sep' if key == 'separator' else 'quotechar'} is one ASCII character, and not {given!r}")
        if given != default:
            options[key] = given
    _only(header, ("infer", 0, True, None, False), "header", "the names stand in the first line, or nowhere: header=None")
    if header is None or header is False:
        options["header"] = False
    dtypes = _dtypes(dtype, parse_dates)
    if dtypes:
        options["dtypes"] = dtypes
    words = _null_words(na_values, keep_default_na)
    if words is not None:
        options["null_words"] = words
    if compression != "infer":
        ways = {None: "none", "gzip": "gzip", "gz": "gzip", "zstd": "zstd", "zst": "zstd"}
        if compression not in ways:
            raise ValueError(f"compression is 'infer', None, 'gzip' or 'zstd', and not {compression!r}")
        options["compression"] = ways[compression]
    if blocksize != "default":
        options["blocksize"] = _WHOLE_FILE if blocksize is None else _bytes(blocksize)
    return DataFrame([{"read_csv": options}])


def from_operations(operations: Sequence[Operation]) -> DataFrame:
    """The frame of a list of operations, such as `DataFrame.operations` gives."""
    listed = json.loads(json.dumps(list(operations)))
    if not listed or not all(isinstance(operation, dict) and len(operation) == 1 for operation in listed) or "read_csv" not in listed[0]:
        raise ValueError("a list of operations begins with read_csv: [{\"read_csv\": {\"paths\": [\"/data/*.csv\"]}}]")
    return DataFrame(listed)


def compute(*collections: Any) -> Tuple[Any, ...]:
    """Computes several frames, columns and values, one after the other. Anything else is given back as it is."""
    return tuple(one.compute() if isinstance(one, _Lazy) else one for one in collections)


_WHOLE_FILE = 1 << 40
_UNITS = {"": 1, "b": 1, **{f"{letter}{end}": (1024 if end == "ib" else 1000) ** power for power, letter in enumerate("kmgt", 1) for end in ("", "b", "ib")}}


def _bytes(size: Any) -> int:
    """A number of bytes, or a text such as `16MiB`."""
    if isinstance(size, str):
        match = re.fullmatch(r"\s*(\d+)\s*([A-Za-z]*)\s*", size)
        if match is None or match.group(2).lower() not in _UNITS:
            raise ValueError(f"blocksize is a number of bytes or a text such as '16MiB', and not {size!r}")
        size = int(match.group(1)) * _UNITS[match.group(2).lower()]
    return _whole(size, "blocksize", 1)


def _dtypes(dtype: Any, parse_dates: Any) -> Dict[str, str]:
    if dtype is not None and not isinstance(dtype, Mapping):
        raise TypeError(f"dtype is a map from columns to types, such as {{\"x\": \"float64\"}}, and not {dtype!r}")
    dtypes = {str(column): _dtype(given) for column, given in (dtype or {}).items()}
    if isinstance(parse_dates, bool) and parse_dates or isinstance(parse_dates, Mapping):
        raise NotImplementedError("parse_dates is a list of columns: parse_dates=[\"day\"]")
    for column in _names(parse_dates or [], "parse_dates"):
        dtypes.setdefault(column, "datetime")
    return dtypes


def _null_words(na_values: Any, keep_default_na: bool) -> Optional[List[str]]:
    words = [na_values] if isinstance(na_values, str) else list(na_values or [])
    if isinstance(na_values, Mapping) or not all(isinstance(word, str) for word in words):
        raise TypeError("na_values is a text or a list of texts, which hold for all columns")
    if not isinstance(keep_default_na, bool):
        raise TypeError(f"keep_default_na is True or False, and not {keep_default_na!r}")
    if not keep_default_na:
        if "" not in words:
            raise NotImplementedError("an empty field is always missing: say so with na_values=[\"\"]")
        return [word for word in words if word]
    return [*NULL_WORDS, *words] if words else None


# --------------------------------------------------------------------------------------------------------------------
# Results.


def _find(module: str) -> Any:
    """A package, or None if it is not installed."""
    try:
        return importlib.import_module(module)
    except ImportError:
        return None


def _need(module: str, what: str) -> Any:
    """A package that must be installed."""
    found = _find(module)
    if found is None:
        package = module.split(".")[0]
        raise DataFrameError(f"{what} needs {package}, which is not installed: pip install {package}", "refused")
    return found


class _Table:
    """A result: names of columns, and rows."""

    names: List[str]

    def rows(self) -> List[Tuple[Any, ...]]:
        """The rows as values of Python. A missing value is None."""
        raise NotImplementedError

    def pandas(self) -> Any:
        """The rows as a DataFrame of pandas, whose index counts from 0."""
        raise NotImplementedError

    def arrow(self) -> Any:
        """The rows as a table of pyarrow."""
        raise NotImplementedError

    def dicts(self) -> List[Dict[str, Any]]:
        """A dict for each row."""
        return [dict(zip(self.names, row)) for row in self.rows()]


class _ArrowTable(_Table):
    """A result that pyarrow has read."""

    def __init__(self, table: Any) -> None:
        self._table = table
        self.names = list(table.column_names)

    def rows(self) -> List[Tuple[Any, ...]]:
        columns = [column.to_pylist() for column in self._table.columns]
        return list(zip(*columns)) if columns else [()] * self._table.num_rows

    def arrow(self) -> Any:
        return self._table

    def pandas(self) -> Any:
        pandas = _need("pandas", "compute")
        columns = {place: self._column(column, pandas) for place, column in enumerate(self._table.columns)}
        frame = pandas.DataFrame(columns, index=pandas.RangeIndex(self._table.num_rows))
        frame.columns = pandas.Index(self.names, dtype="str" if self.names else None)
        return frame

    def _column(self, column: Any, pandas: Any) -> Any:
        kind = str(column.type)
        if column.null_count and re.fullmatch(r"u?int\d+|bool", kind):
            dtype = pandas.api.types.pandas_dtype(_nullable(kind))
            return column.to_pandas(types_mapper={column.type: dtype}.get)
        if kind.startswith("date"):
            return column.cast("timestamp[us]").to_pandas()
        if kind in ("string_view", "large_string", "string"):
            texts = column.cast("large_string")
            return texts.to_pandas(types_mapper={texts.type: _text_dtype(pandas)}.get)
        if kind == "null":
            return pandas.Series([None] * len(column), dtype="object")
        return column.to_pandas()


def _text_dtype(pandas: Any) -> Any:
    """The type of texts, as Dask chooses it: that of pyarrow where there is pyarrow."""
    return pandas.api.types.pandas_dtype("str") if _find("pyarrow") is None else pandas.StringDtype("pyarrow")


def _pandas_type(dtype: str, pandas: Any) -> Any:
    """pandas' type for a type of the language."""
    if dtype == "string":
        return _text_dtype(pandas)
    if dtype in ("date", "datetime"):
        return pandas.api.types.pandas_dtype("datetime64[us]")
    known = dtype == "bool" or re.fullmatch(r"u?int(8|16|32|64)|float(16|32|64)", dtype)
    return pandas.api.types.pandas_dtype(dtype if known else "object")


def _nullable(kind: str) -> str:
    """pandas' type that has missing values, for a type of numbers or truth values."""
    return "boolean" if kind == "bool" else kind.replace("uint", "UInt").replace("int", "Int") if kind[0] == "i" else "UInt" + kind[4:]


class _PlainTable(_Table):
    """A result that this file has read from Arrow's bytes, without pyarrow."""

    def __init__(self, columns: List["_Column"], length: int) -> None:
        self._columns = columns
        self._length = length
        self.names = [column.name for column in columns]

    def rows(self) -> List[Tuple[Any, ...]]:
        columns = [column.python() for column in self._columns]
        return list(zip(*columns)) if columns else [()] * self._length

    def arrow(self) -> Any:
        raise DataFrameError("Parquet is written by pyarrow, which is not installed: pip install pyarrow", "refused")

    def pandas(self) -> Any:
        pandas = _need("pandas", "compute")
        columns = {place: column.pandas(pandas) for place, column in enumerate(self._columns)}
        frame = pandas.DataFrame(columns, index=pandas.RangeIndex(self._length))
        frame.columns = pandas.Index(self.names, dtype="str" if self.names else None)
        return frame


_EPOCH = datetime.datetime(1970, 1, 1)
_PER_SECOND = {"s": 1, "ms": 1_000, "us": 1_000_000, "ns": 1_000_000_000}


class _Column:
    """One column of a result: its name, its type, and its values, among which None is a missing one.

    Times are numbers since 1970 in their unit, and dates are numbers of days.
    """

    def __init__(self, name: str, kind: str) -> None:
        self.name = name
        self.kind = kind
        self.values: List[Any] = []

    def python(self) -> List[Any]:
        """The values as Python has them. What is finer than a microsecond is cut off."""
        if self.kind == "date":
            return [None if value is None else (_EPOCH + datetime.timedelta(days=value)).date() for value in self.values]
        if self.kind.startswith("datetime64"):
            each = _PER_SECOND[self.kind[11:-1]]
            return [None if value is None else _EPOCH + datetime.timedelta(microseconds=value * 1_000_000 // each) for value in self.values]
        return self.values

    def pandas(self, pandas: Any) -> Any:
        """The values as a Series."""
        missing = None in self.values
        if re.fullmatch(r"u?int\d+|bool", self.kind):
            return pandas.Series(self.values, dtype=_nullable(self.kind) if missing else self.kind)
        if self.kind.startswith("float"):
            return pandas.Series([math.nan if value is None else value for value in self.values], dtype=self.kind)
        if self.kind == "str":
            return pandas.Series(self.values, dtype=_text_dtype(pandas))
        if self.kind == "date" or self.kind.startswith("datetime64"):
            numpy = importlib.import_module("numpy")
            unit, scale = ("datetime64[us]", 86_400_000_000) if self.kind == "date" else (self.kind, 1)
            nothing = -(1 << 63)  # NaT
            return pandas.Series(numpy.array([nothing if value is None else value * scale for value in self.values], dtype="int64").view(unit))
        return pandas.Series(self.values, dtype="object")


def _read_arrow(data: bytes) -> _Table:
    """Reads a stream of Arrow IPC: with pyarrow if it is installed, and else with what follows."""
    pyarrow = _find("pyarrow")
    if pyarrow is not None:
        with importlib.import_module("pyarrow.ipc").open_stream(io.BytesIO(data)) as stream:
            return _ArrowTable(stream.read_all())
    return _read_plainly(data)


class _Flat:
    """A table of FlatBuffers, in which Arrow describes its messages."""

    def __init__(self, data: bytes, place: int) -> None:
        self.data = data
        self.place = place
        (back,) = struct.unpack_from("<i", data, place)
        self.fields = place - back
        (self.length,) = struct.unpack_from("<H", data, self.fields)

    def find(self, number: int) -> Optional[int]:
        """The place of a field, or None if it has its default."""
        at = 4 + 2 * number
        offset = struct.unpack_from("<H", self.data, self.fields + at)[0] if at < self.length else 0
        return self.place + offset if offset else None

    def number(self, number: int, form: str, default: int = 0) -> int:
        """A field that is a number."""
        at = self.find(number)
        return default if at is None else int(struct.unpack_from("<" + form, self.data, at)[0])

    def below(self, number: int) -> Optional[int]:
        """The place that a field points to."""
        at = self.find(number)
        return None if at is None else at + int(struct.unpack_from("<I", self.data, at)[0])

    def text(self, number: int) -> str:
        """A field that is a text."""
        at = self.below(number)
        if at is None:
            return ""
        (length,) = struct.unpack_from("<I", self.data, at)
        return bytes(self.data[at + 4 : at + 4 + int(length)]).decode()

    def vector(self, number: int) -> Tuple[int, int]:
        """The place of the first element of a field that is a vector, and the number of elements."""
        at = self.below(number)
        if at is None:
            return 0, 0
        (count,) = struct.unpack_from("<I", self.data, at)
        if count > len(self.data) // 4:
            raise IndexError("a vector is longer than the message")
        return at + 4, int(count)

    def tables(self, number: int) -> List["_Flat"]:
        """A field that is a vector of tables."""
        first, count = self.vector(number)
        places = [first + 4 * index for index in range(count)]
        return [_Flat(self.data, at + int(struct.unpack_from("<I", self.data, at)[0])) for at in places]


_INTEGERS = {(8, 1): ("int8", "b"), (16, 1): ("int16", "h"), (32, 1): ("int32", "i"), (64, 1): ("int64", "q"),
             (8, 0): ("uint8", "B"), (16, 0): ("uint16", "H"), (32, 0): ("uint32", "I"), (64, 0): ("uint64", "Q")}
_FLOATS = (("float16", "e"), ("float32", "f"), ("float64", "d"))
_SCHEMA, _RECORD_BATCH = 1, 3


def _kind(field: _Flat) -> Tuple[str, str]:
    """The type of a column, and how its values are stored: a letter of `struct`, or a word."""
    tag, place = field.number(2, "B"), field.below(3)
    kind = _Flat(field.data, place or 0)
    dictionary = field.find(4)
    if dictionary is None and tag == 1:
        return "null", "null"
    if dictionary is None and tag == 2:
        return _INTEGERS[kind.number(0, "i"), kind.number(1, "B")]
    if dictionary is None and tag == 3:
        return _FLOATS[kind.number(0, "h")]
    if dictionary is None and tag in (5, 20, 24):
        return "str", {5: "texts i", 20: "texts q", 24: "views"}[tag]
    if dictionary is None and tag == 6:
        return "bool", "bits"
    if dictionary is None and tag == 7 and kind.number(2, "i", 128) in (32, 64, 128, 256):
        return f"decimal {kind.number(1, 'i')}", f"decimal {kind.number(2, 'i', 128) // 8}"
    if dictionary is None and tag == 8 and kind.number(0, "h", 1) == 0:
        return "date", "i"
    if dictionary is None and tag == 10 and not kind.text(1):
        return f"datetime64[{('s', 'ms', 'us', 'ns')[kind.number(0, 'h')]}]", "q"
    raise DataFrameError(f"the column {field.text(0)!r} has a type that only pyarrow reads: pip install pyarrow, or cast it in SQL", "refused")


def _read_plainly(data: bytes) -> _Table:
    """Reads a stream of Arrow IPC with Python alone."""
    at, length = 0, 0
    columns: List[_Column] = []
    stored: List[str] = []
    try:
        while True:
            mark, size = struct.unpack_from("<Ii", data, at)
            if mark != 0xFFFFFFFF or size < 0:
                raise IndexError("a message begins otherwise")
            if size == 0:
                return _PlainTable(columns, length)
            (root,) = struct.unpack_from("<I", data, at + 8)
            message = _Flat(data, at + 8 + root)
            body = at + 8 + size
            header = _Flat(data, message.below(2) or 0)
            if message.number(1, "B") == _SCHEMA:
                for field in header.tables(1):
                    kind, form = _kind(field)
                    columns.append(_Column(field.text(0), kind))
                    stored.append(form)
            elif message.number(1, "B") == _RECORD_BATCH:
                length += header.number(0, "q")
                _read_batch(header, data, body, columns, stored)
            following = body + message.number(3, "q")
            if following <= at:
                raise IndexError("a message ends before it begins")
            at = following
    except (struct.error, IndexError, KeyError, ValueError, StopIteration, OverflowError, MemoryError, decimal.DecimalException) as error:
        raise DataFrameError(f"the master sent something that is no Arrow IPC: {error}") from error


def _read_batch(header: _Flat, data: bytes, body: int, columns: List[_Column], stored: List[str]) -> None:
    """Adds the rows of one batch to the columns."""
    if header.find(3) is not None:
        raise DataFrameError("the result is compressed, which only pyarrow reads: pip install pyarrow", "refused")
    nodes, _ = header.vector(1)
    first, count = header.vector(2)
    parts = iter([struct.unpack_from("<qq", data, first + 16 * index) for index in range(count)])
    more, variadic = header.vector(4)
    texts = iter([struct.unpack_from("<q", data, more + 8 * index)[0] for index in range(variadic)])

    def part() -> bytes:
        offset, size = next(parts)
        if offset < 0 or size < 0 or body + offset + size > len(data):
            raise IndexError("a buffer lies outside of the message")
        return data[body + offset : body + offset + size]

    for index, (column, form) in enumerate(zip(columns, stored)):
        rows, _ = struct.unpack_from("<qq", data, nodes + 16 * index)
        if rows != header.number(0, "q") or not 0 <= rows < 1 << 27:
            raise IndexError("a column has another number of rows")
        if form == "null":
            column.values.extend([None] * rows)
            continue
        valid = part()
        values = _values_of(form, column.kind, rows, part, texts)
        if valid:
            values = [value if valid[row >> 3] >> (row & 7) & 1 else None for row, value in enumerate(values)]
        column.values.extend(values)


def _values_of(form: str, kind: str, rows: int, part: Callable[[], bytes], texts: Iterator[int]) -> List[Any]:
    """The values of a column in one batch; those that are missing are anything."""
    if form == "bits":
        bits = part()
        return [bool(bits[row >> 3] >> (row & 7) & 1) for row in range(rows)]
    if form.startswith("texts"):
        ends, letters = part(), part()
        places = struct.unpack_from(f"<{rows + 1}{form[-1]}", ends) if rows else ()
        return [letters[start:end].decode() for start, end in zip(places, places[1:])]
    if form == "views":
        views, pieces = part(), [part() for _ in range(next(texts))]
        return [_viewed(views, 16 * row, pieces) for row in range(rows)]
    if form.startswith("decimal"):
        width, scale, numbers = int(form[8:]), int(kind[8:]), part()
        return [decimal.Decimal(int.from_bytes(numbers[width * row : width * row + width], "little", signed=True)).scaleb(-scale, decimal.Context(prec=100)) for row in range(rows)]
    return list(struct.unpack_from(f"<{rows}{form}", part())) if rows else (part(), [])[1]


def _viewed(views: bytes, at: int, pieces: List[bytes]) -> str:
    """One text of a column of views: short texts stand in the view itself."""
    (length,) = struct.unpack_from("<i", views, at)
    if length <= 12:
        return bytes(views[at + 4 : at + 4 + length]).decode()
    piece, start = struct.unpack_from("<ii", views, at + 8)
    return bytes(pieces[piece][start : start + length]).decode()


# --------------------------------------------------------------------------------------------------------------------
# The ways to a master.


class _Way:
    """How lists of operations get to a master, and results back."""

    def run(self, operations: List[Operation]) -> _Table:
        """Computes a list of operations."""
        raise NotImplementedError

    def explain(self, operations: List[Operation]) -> str:
        """Tells how a list of operations is computed."""
        raise DataFrameError("explain is there over XML-RPC only: Client(\"http://HOST:PORT\")", "refused")

    def nodes(self, command: Any) -> List[Dict[str, Any]]:
        """Asks about the workers, or changes them."""
        raise DataFrameError("orders about workers go over XML-RPC only: Client(\"http://HOST:PORT\")", "refused")


_MAX_LIST = 4 << 20  # bytes of a list of operations, as the master takes it
_SILENCE = 5.0  # seconds for which a client waits for a master at least
_HTTP_TIME = 30.0  # seconds within which the master answers a call; it does so within 10 s
_ASK_AGAIN = (1, 2, 3, 4)  # faults of XML-RPC after which the job is sent again: see crates/middleware/src/xmlrpc.rs


class _Interrupted(Exception):
    """A reply broke off. The job is sent again under its id."""


class _Posted(xmlrpc.client.Transport):
    """HTTP with an end to waiting."""

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        connection = super().make_connection(host)
        connection.timeout = _HTTP_TIME
        return connection


_NODE_NAME = "node.dataframe.internal"  # what every certificate of a node is valid for: see crates/mutual-tls/src/lib.rs


class _Certificates:
    """The certificates of a client, in a folder that `dataframe certificates` has made."""

    def __init__(self, folder: Union[str, "os.PathLike[str]"]) -> None:
        names = ("ca.pem", "client.pem", "client.key")
        self.authority, self.certificate, self.key = (os.path.join(os.fspath(folder), name) for name in names)
        for path in (self.authority, self.certificate, self.key):
            if not os.path.isfile(path):
                raise ValueError(f"tls: there is no file {path}: give a folder that `dataframe certificates` has made")

    def context(self) -> ssl.SSLContext:
        """What a connection is made with: it trusts the cluster's authority alone."""
        context = ssl.create_default_context(ssl.Purpose.SERVER_AUTH, cafile=self.authority)
        context.load_cert_chain(self.certificate, self.key)
        return context

    def for_flight(self) -> Dict[str, Any]:
        """The arguments of `pyarrow.flight.connect`."""
        authority, certificate, key = (_bytes_of(path) for path in (self.authority, self.certificate, self.key))
        return {"tls_root_certs": authority, "cert_chain": certificate, "private_key": key, "override_hostname": _NODE_NAME}


def _bytes_of(path: str) -> bytes:
    with open(path, "rb") as file:
        return file.read()


class _ToNode(http.client.HTTPSConnection):
    """A connection to a node of the cluster, at whatever address it is called."""

    def __init__(self, host: str, context: ssl.SSLContext) -> None:
        super().__init__(host, timeout=_HTTP_TIME, context=context)
        self._tls = context

    def connect(self) -> None:
        http.client.HTTPConnection.connect(self)
        self.sock = self._tls.wrap_socket(self.sock, server_hostname=_NODE_NAME)


class _PostedOverTls(xmlrpc.client.Transport):
    """HTTP over TLS, with an end to waiting."""

    def __init__(self, certificates: _Certificates) -> None:
        super().__init__()
        self._tls = certificates.context()

    def make_connection(self, host: Any) -> http.client.HTTPConnection:
        if self._connection and host == self._connection[0] and self._connection[1]:
            return self._connection[1]
        connection = _ToNode(self.get_host_info(host)[0], self._tls)
        self._connection = host, connection
        return connection


class _XmlRpcWay(_Way):
    """The master's own protocol over XML-RPC: a job is sent under its id, until it has ended. A result may have any length, as it comes in pieces.

    `crates/middleware/src/xmlrpc.rs` has the methods `call`, `more` and `cancel`, and `crates/dataframe-jobs/src/message.rs` the messages.
    """

    def __init__(
        self, address: str, wait: float, on_progress: Optional[Callable[[Dict[str, Any]], None]], certificates: Optional[_Certificates]
    ) -> None:
        self._address, self._wait, self._on_progress, self._certificates = address, wait, on_progress, certificates
        self._last_word = 0.0

    def run(self, operations: List[Operation]) -> _Table:
        return _read_arrow(self._submit(operations, False)[0])

    def explain(self, operations: List[Operation]) -> str:
        plan, finished = self._submit(operations, True)
        lines = [str(row[0]) for row in _read_arrow(plan).rows()]
        places = [f"{task:>4}  {worker}  {attempt}" for task, worker, attempt in finished.get("places", [])]
        return "\n".join([*lines, "", "task  worker  attempt", *places, ""])

    def nodes(self, command: Any) -> List[Dict[str, Any]]:
        replies = self._until_answered({"nodes": command})
        workers: List[Dict[str, Any]] = replies[-1][1]["workers"]
        return workers

    def _submit(self, operations: List[Operation], explain: bool) -> Tuple[bytes, Dict[str, Any]]:
        job = _ulid()
        submission = {"job": job, "operations": operations, "wait_ms": int(self._wait * 1000), "explain": explain}
        try:
            replies = self._until_answered({"submit": submission})
        except KeyboardInterrupt:
            self._give_up(job)
            raise
        pieces = [body for kind, _, body in replies if kind == "result"]
        return b"".join(pieces), replies[-1][1]

    def _give_up(self, job: str) -> None:
        try:
            with self._server() as server:
                server.call(_packet({"cancel": {"job": job}}))
        except (OSError, http.client.HTTPException, xmlrpc.client.Error):
            pass  # the master may be gone, and then it has given the job up

    def _server(self) -> xmlrpc.client.ServerProxy:
        if self._certificates is None:
            return xmlrpc.client.ServerProxy(self._address, transport=_Posted())
        return xmlrpc.client.ServerProxy(self._address, transport=_PostedOverTls(self._certificates))

    def _until_answered(self, message: Dict[str, Any]) -> List[Tuple[str, Any, bytes]]:
        """Sends a request until its reply is whole, although the master may be killed and started meanwhile."""
        packet = _packet(message)
        self._last_word, pause = time.monotonic(), 0.05
        while True:
            try:
                return self._ask(packet)
            except _Interrupted as interrupted:
                if time.monotonic() - self._last_word > max(self._wait, _SILENCE if self._wait else 0.0):
                    text = f"the master at {self._address} does not answer: {interrupted}. Is dataframe-master running, with --middleware xmlrpc?"
                    raise DataFrameError(text, "no-workers") from interrupted.__cause__
                time.sleep(pause)
                pause = min(1.0, pause * 2)

    def _ask(self, packet: bytes) -> List[Tuple[str, Any, bytes]]:
        replies: List[Tuple[str, Any, bytes]] = []
        try:
            with self._server() as server:
                answer: Any = server.call(packet)
                while True:
                    self._last_word = time.monotonic()
                    replies += [self._opened(piece.data) for piece in answer["pieces"]]
                    if answer["last"]:
                        break
                    received = len(replies)
                    answer = server.more(answer["id"], received)
        except xmlrpc.client.Fault as fault:
            if fault.faultCode in _ASK_AGAIN:
                raise _Interrupted(fault.faultString) from fault
            raise DataFrameError(f"the master at {self._address} refuses the call: {fault.faultString}", "refused") from fault
        except (OSError, http.client.HTTPException) as error:
            raise _Interrupted(str(error) or type(error).__name__) from error
        except (xmlrpc.client.Error, xml.parsers.expat.ExpatError, KeyError, TypeError, AttributeError) as error:
            raise DataFrameError(f"{self._address} is no master of the DataFrame over XML-RPC: {error}", "refused") from error
        return self._whole(replies)

    def _opened(self, packet: bytes) -> Tuple[str, Any, bytes]:
        """The kind of a message, what it says, and its body."""
        line, _, body = packet.partition(b"\n")
        try:
            header = json.loads(line)
            message = header["message"]
            kind, said = (message, {}) if isinstance(message, str) else next(iter(message.items()))
            if header["bytes"] != len(body):
                raise ValueError("a message is cut off")
        except (ValueError, KeyError, TypeError, AttributeError, StopIteration) as error:
            raise DataFrameError(f"the master sent something that is no message: {error}") from error
        if kind == "failed":
            raise DataFrameError(str(said.get("message")), str(said.get("code")))
        if kind == "progress" and self._on_progress is not None:
            self._on_progress(said)
        return kind, said, body

    def _whole(self, replies: List[Tuple[str, Any, bytes]]) -> List[Tuple[str, Any, bytes]]:
        """Checks that no piece is missing."""
        pieces = [said.get("piece") for kind, said, _ in replies if kind == "result"]
        if not replies or replies[-1][0] not in ("finished", "nodes", "accepted") or pieces != list(range(len(pieces))):
            raise _Interrupted("the reply is not complete")
        if replies[-1][0] == "finished" and replies[-1][1].get("pieces") != len(pieces):
            raise _Interrupted("the result is not complete")
        return replies


def _packet(message: Dict[str, Any]) -> Any:
    """The bytes of a message without a body: one line of JSON."""
    line = json.dumps({"version": 1, "bytes": 0, "message": message}, separators=(",", ":"), ensure_ascii=False, allow_nan=False) + "\n"
    data = line.encode()
    if len(data) > _MAX_LIST:
        raise DataFrameError(f"the list of operations has {len(data)} bytes, and may have {_MAX_LIST}: put long lists of values into a file, and use merge", "bad-job")
    return xmlrpc.client.Binary(data)


_LETTERS = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"


def _ulid() -> str:
    """A new id of a job: https://github.com/ulid/spec."""
    number = (int(time.time() * 1000) << 80) | secrets.randbits(80)
    return "".join(_LETTERS[number >> shift & 31] for shift in range(125, -1, -5))


class _FlightWay(_Way):
    """Arrow Flight: the list of operations is the command of the descriptor, and the tickets give the rows."""

    def __init__(self, address: str, wait: float, certificates: Optional[_Certificates]) -> None:
        self._address, self._wait = address, wait
        self._flight = _need("pyarrow.flight", "a grpc:// address")
        try:
            if certificates is None:
                self._connection = self._flight.connect(address)
            else:
                self._connection = self._flight.connect(address.replace("grpc://", "grpc+tls://"), **certificates.for_flight())
        except Exception as error:
            raise self._failure(error) from error

    def run(self, operations: List[Operation]) -> _Table:
        pyarrow = _need("pyarrow", "a grpc:// address")
        command = json.dumps(operations, separators=(",", ":"), ensure_ascii=False, allow_nan=False).encode()
        begun, pause = time.monotonic(), 0.05
        while True:
            try:
                info = self._connection.get_flight_info(self._flight.FlightDescriptor.for_command(command))
                tables = [self._connection.do_get(endpoint.ticket).read_all() for endpoint in info.endpoints]
                # Rows without any column are still rows, and `concat_tables` loses them.
                whole = tables[0] if len(tables) == 1 else pyarrow.concat_tables(tables) if tables else info.schema.empty_table()
                return _ArrowTable(whole)
            except self._flight.FlightUnavailableError as error:
                # A computation changes nothing, and can be asked for again.
                if time.monotonic() - begun > self._wait:
                    raise self._failure(error) from error
                time.sleep(pause)
                pause = min(1.0, pause * 2)
            except pyarrow.ArrowException as error:
                raise self._failure(error) from error

    def _failure(self, error: Exception) -> DataFrameError:
        """gRPC adds words of its own to what the master says."""
        text = re.sub(r"\. (Detail|gRPC client debug context): .*", "", str(error), flags=re.DOTALL)
        text = re.sub(r"^(Flight|gRPC) (returned|client) .*? with message: ", "", text, flags=re.DOTALL)
        if type(error).__name__ in ("FlightUnavailableError", "FlightTimedOutError"):
            text = f"the master at {self._address} does not answer: {text}. Is dataframe-master running, with --middleware grpc?"
            return DataFrameError(text, "no-workers")
        return DataFrameError(text, "bad-job" if isinstance(error, ValueError) else "internal")


class Client:
    """The way to a master. The newest client is the one that frames are computed with; `with Client(…):` ends that again.

    `address` is `http://HOST:PORT` (XML-RPC) or `grpc://HOST:PORT` (Arrow Flight); without it, the variable `DATAFRAME_MASTER`
    or `http://localhost:9000`. `tls` is the folder of the client's certificates, where the cluster runs with `--tls`; without it, the
    variable `DATAFRAME_TLS`. `wait` is how many seconds a computation waits for a master and for workers. `on_progress` is called
    with a dict (`done`, `total` and `running` tasks) while a computation runs; over XML-RPC only.
    """

    def __init__(
        self,
        address: Optional[str] = None,
        *,
        wait: float = 30.0,
        on_progress: Optional[Callable[[Dict[str, Any]], None]] = None,
        tls: Union[str, "os.PathLike[str]", None] = None,
    ) -> None:
        self.address = address or os.environ.get("DATAFRAME_MASTER") or DEFAULT_MASTER
        if "://" not in self.address:
            self.address = f"http://{self.address}"
        scheme, _, place = self.address.partition("://")
        if not re.fullmatch(r"[^/:@\s]+:\d+|\[[0-9a-fA-F:.]+\]:\d+", place.rstrip("/")) or scheme not in ("http", "grpc"):
            raise ValueError(f"the address of a master is http://HOST:PORT or grpc://HOST:PORT, and not {self.address!r}")
        if isinstance(wait, bool) or not isinstance(wait, (int, float)) or not 0 <= wait < 1e9:
            raise ValueError(f"wait is a number of seconds, and not {wait!r}")
        if scheme == "grpc" and on_progress is not None:
            raise ValueError("on_progress is called over XML-RPC only: Client(\"http://HOST:PORT\")")
        folder = tls if tls is not None else os.environ.get("DATAFRAME_TLS")
        certificates = _Certificates(folder) if folder else None
        self._way: _Way
        if scheme == "grpc":
            self._way = _FlightWay(self.address, float(wait), certificates)
        else:
            self._way = _XmlRpcWay(self.address.rstrip("/"), float(wait), on_progress, certificates)
        _clients.append(self)

    def run(self, operations: List[Operation]) -> _Table:
        """Computes a list of operations. `compute()` of a frame does so, and gives the rows as Dask does."""
        return self._way.run(operations)

    def explain(self, operations: List[Operation]) -> str:
        """Tells how a list of operations is computed. Over XML-RPC only."""
        return self._way.explain(operations)

    def workers(self) -> List[Dict[str, Any]]:
        """The workers: name, address, state (`ready`, `draining` or `lost`), and the numbers of running and finished tasks. Over XML-RPC only."""
        return [_worker(status) for status in self._way.nodes("list")]

    def add_worker(self, address: str) -> None:
        """Takes in the worker at `HOST:PORT`."""
        self._way.nodes({"add": {"address": address}})

    def remove_worker(self, name: str) -> None:
        """Removes a worker at once; its tasks start elsewhere."""
        self._way.nodes({"remove": {"worker": name}})

    def drain_worker(self, name: str) -> None:
        """Gives a worker no further task."""
        self._way.nodes({"drain": {"worker": name}})

    def close(self) -> None:
        """Frames are computed with the client before this one again."""
        if self in _clients:
            _clients.remove(self)

    def __enter__(self) -> "Client":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Client of {self.address}>"


_clients: List[Client] = []


def _client() -> Client:
    """The newest client, or one of the default address."""
    return _clients[-1] if _clients else Client()


def _worker(status: Dict[str, Any]) -> Dict[str, Any]:
    info = status["info"]
    return {"name": info["name"], "address": info.get("address"), "state": status["state"], "running": status["running"], "finished": status["finished"]}
