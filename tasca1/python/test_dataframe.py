"""Tests of the client without a cluster: what becomes of Python code, and what is read of a reply.

    python3 -m unittest discover tasca1/python

Needs nothing. What pandas and pyarrow are needed for is tested where they are installed.
"""

import ast
import base64
import datetime
import decimal
import enum
import importlib.util
import io
import json
import math
import os
import re
import socket
import tempfile
import threading
import unittest
import xmlrpc.client
import xmlrpc.server
from unittest import mock

import dataframe as dd

HAS_PANDAS = importlib.util.find_spec("pandas") is not None
HAS_PYARROW = importlib.util.find_spec("pyarrow") is not None
HOSTILE = ["", "'", "''", "\\'", "'; drop table df; --", "\" or 1 = 1 --", "a\nb", "\0", "$$", "%s {} {0}", "/*", "ñ東", "' || (select 1) || '", "\\", "x' OR 'x' = 'x"]
SOURCE = {"read_csv": {"paths": ["a.csv"]}}

# A stream of Arrow IPC as the master sends it: the columns text (["a", None, "a text of more than twelve bytes"], views), n (int64, one missing),
# x (float64), flag (bool, one missing), day (date32), time (timestamp in microseconds).
STREAM = base64.b64decode("""
/////2ABAAAQAAAAAAAKAAwABgAFAAgACgAAAAABBAAMAAAACAAIAAAABAAIAAAABAAAAAYAAAAEAQAAvAAAAIwAAABgAAAANAAAAAQAAAAk////AAABChAAAAAYAAAABAAAAAAAAAAEAAAAdGltZQ
AAAACK////AAACAFD///8AAAEIEAAAABQAAAAEAAAAAAAAAAMAAABkYXkAsv///wAAAAB4////AAABBhAAAAAYAAAABAAAAAAAAAAEAAAAZmxhZwAAAABo////oP///wAAAQMQAAAAGAAAAAQAAAAA
AAAAAQAAAHgABgAIAAYABgAAAAAAAgDM////AAABAhAAAAAcAAAABAAAAAAAAAABAAAAbgAAAAgADAAIAAcACAAAAAAAAAFAAAAAEAAUAAgABgAHAAwAAAAQABAAAAAAAAEYEAAAABwAAAAEAAAAAA
AAAAQAAAB0ZXh0AAAAAAQABAAEAAAA/////6ABAAAUAAAAAAAAAAwAFgAGAAUACAAMAAwAAAAAAwQAHAAAANgAAAAAAAAAAAAOABwAEAAEAAgAAAAMAA4AAAAAAQAAJAAAABAAAAADAAAAAAAAAAAA
AAABAAAAAQAAAAAAAAAAAAAADQAAAAAAAAAAAAAAAQAAAAAAAAAIAAAAAAAAADAAAAAAAAAAOAAAAAAAAAAgAAAAAAAAAFgAAAAAAAAAAQAAAAAAAABgAAAAAAAAABgAAAAAAAAAeAAAAAAAAAAAAA
AAAAAAAHgAAAAAAAAAGAAAAAAAAACQAAAAAAAAAAEAAAAAAAAAmAAAAAAAAAABAAAAAAAAAKAAAAAAAAAAAQAAAAAAAACoAAAAAAAAAAwAAAAAAAAAuAAAAAAAAAABAAAAAAAAAMAAAAAAAAAAGAAA
AAAAAAAAAAAABgAAAAMAAAAAAAAAAQAAAAAAAAADAAAAAAAAAAEAAAAAAAAAAwAAAAAAAAAAAAAAAAAAAAMAAAAAAAAAAQAAAAAAAAADAAAAAAAAAAEAAAAAAAAAAwAAAAAAAAABAAAAAAAAAAUAAA
AAAAAAAQAAAGEAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAgAAAAYSB0ZQAAAAAAAAAAYSB0ZXh0IG9mIG1vcmUgdGhhbiB0d2VsdmUgYnl0ZXMFAAAAAAAAAAEAAAAAAAAAAAAAAAAAAAADAAAA
AAAAAAAAAAAAAOA/AAAAAAAA8H8AAAAAAAAAwAUAAAAAAAAAAQAAAAAAAAAFAAAAAAAAAEZNAAAAAAAA/////wAAAAAFAAAAAAAAAADC+WqEEgYAAAAAAAAAAADAvfD///////////8AAAAA
""")


def frame():
    return dd.read_csv("a.csv")


def sql(series):
    """The expression of a column that is computed."""
    return series.operations[-1]["apply"]["expression"]


def last(rows):
    """The last operation."""
    return rows.operations[-1]


class Recorded(dd._Way):
    """Gives the same rows for everything, and keeps the lists of operations."""

    def __init__(self, columns):
        self.lists, self.columns = [], columns

    def run(self, operations):
        self.lists.append(json.loads(json.dumps(operations)))
        built = []
        for name, kind, values in self.columns:
            column = dd._Column(name, kind)
            column.values = list(values)
            built.append(column)
        return dd._PlainTable(built, len(self.columns[0][2]))


def answering(*columns):
    """A client whose master gives these columns: name, type, values."""
    client = dd.Client("http://127.0.0.1:1")
    client._way = Recorded(columns)
    return client


class Source(unittest.TestCase):
    def test_python_3_9_reads_it(self):
        with open(dd.__file__, encoding="utf-8") as file:
            ast.parse(file.read(), feature_version=(3, 9))

    def test_everything_public_is_explained(self):
        for name in dd.__all__:
            explained = getattr(dd, name)
            self.assertTrue(explained.__doc__, name)
            for member, value in vars(explained).items() if isinstance(explained, type) else ():
                if not member.startswith("_") and (callable(value) or isinstance(value, property)):
                    self.assertTrue(value.__doc__, f"{name}.{member}")


class Expressions(unittest.TestCase):
    def test_operators_are_pandas(self):
        df = frame()
        expected = [
            (df.x + 1, '("x" + 1)'), (1 + df.x, '(1 + "x")'), (df.x - -1, '("x" - (-1))'), (2.5 * df.x, '(2.5 * "x")'),
            (df.x / 2, '(CAST("x" AS DOUBLE) / 2)'), (1 / df.x, '(CAST(1 AS DOUBLE) / "x")'), (df.x // 2, 'floor(CAST("x" AS DOUBLE) / 2)'.replace("floor(", "floor(", 1)),
            (df.x % 3, '(("x" % 3 + 3) % 3)'), (df.x ** 2, 'power("x", 2)'), (-df.x, '(- "x")'), (abs(df.x), 'abs("x")'),
            (df.x == 1, '(("x" = 1) IS TRUE)'), (df.x != 1, '("x" IS DISTINCT FROM 1)'), (df.x < df.y, '(("x" < "y") IS TRUE)'), (3 >= df.x, '(("x" <= 3) IS TRUE)'),
            ((df.x > 1) & ~df.flag, '((("x" > 1) IS TRUE) AND (NOT "flag"))'), ((df.x > 1) | True, '((("x" > 1) IS TRUE) OR true)'),
            (df.name + "!", '("name" || \'!\')'), ("¡" + df.name, '(\'¡\' || "name")'),
            (df.x.isna(), '("x" IS NULL)'), (df.x.notnull(), '("x" IS NOT NULL)'), (df.x.round(2), 'round("x", 2)'),
            (df.x.between(1, 5, inclusive="left"), '((("x" >= 1) IS TRUE) AND (("x" < 5) IS TRUE))'),
            (df.x.where(df.x > 0, 0), '(CASE WHEN (("x" > 0) IS TRUE) THEN "x" ELSE 0 END)'),
            (df.x.mask(df.x > 0), '(CASE WHEN ((("x" > 0) IS TRUE) IS NOT TRUE) THEN "x" ELSE NULL END)'),
            (df.x.astype(float), 'CAST("x" AS DOUBLE)'), (df.x.astype("Int64"), 'CAST("x" AS BIGINT)'), (df.x.astype(str), 'CAST("x" AS VARCHAR)'),
            (df.name.str.len(), 'CAST(character_length("name") AS BIGINT)'), (df.name.str.contains("a.c"), "regexp_like(\"name\", 'a.c')"),
            (df.name.str.contains("a.c", regex=False), "(strpos(\"name\", 'a.c') > 0)"), (df.name.str.replace("a", "b"), "replace(\"name\", 'a', 'b')"),
            (df.day.dt.year, "date_part('year', \"day\")"), (df.day.dt.dayofweek, "((date_part('dow', \"day\") + 6) % 7)"),
            (df.x.isin([1, "a", None]) | False, "((\"x\" IS NULL OR (\"x\" IN ('a') OR \"x\" IN (1))) OR false)"), (df.x.isin([]) | False, '(("x" IS NOT NULL AND (false)) OR false)'),
        ]
        for series, text in expected:
            self.assertEqual(sql(series), text)

    def test_names_of_columns_are_quoted(self):
        for name in [*HOSTILE[1:], "select", "Año", "a.b", "x y"]:
            written = sql(frame()[name] + 1)
            quoted = re.fullmatch(r'\(("(?:[^"]|"")*") \+ 1\)', written, flags=re.DOTALL)
            self.assertIsNotNone(quoted, written)
            self.assertEqual(quoted.group(1)[1:-1].replace('""', '"'), name)

    def test_no_text_changes_an_expression(self):
        df = frame()
        for text in HOSTILE:
            literal = r"'((?:[^']|'')*)'"
            for series, shape in ((df.x == text, rf'\(\("x" = {literal}\) IS TRUE\)'), (df.x.isin([text]) | True, rf'\(\("x" IS NOT NULL AND \("x" IN \({literal}\)\)\) OR true\)'),
                                  (df.x.str.contains(text), rf'regexp_like\("x", {literal}\)'), (df.x + text, rf'\("x" \|\| {literal}\)')):
                found = re.fullmatch(shape, sql(series), flags=re.DOTALL)
                self.assertIsNotNone(found, sql(series))
                self.assertEqual(found.group(1).replace("''", "'"), text)
            self.assertEqual(last(df.isin([text])), {"isin": {"values": [text]}})
            self.assertEqual(last(df.fillna({"x": text})), {"fillna": {"value": text, "columns": ["x"]}})

    def test_values_of_all_kinds(self):
        class Colour(enum.IntEnum):
            RED = 3

        class Word(str):
            def __str__(self):
                return "another one"

        values = {
            "NULL": [None, math.nan], "true": [True], "5": [5], "(-5)": [-5], "3": [Colour.RED], "1e+300": [1e300], "(-0.5)": [-0.5],
            "CAST('inf' AS DOUBLE)": [math.inf], "CAST('-inf' AS DOUBLE)": [-math.inf], "9223372036854775807": [2**63 - 1],
            "CAST('-9223372036854775808' AS BIGINT)": [-(2**63)], "CAST('18446744073709551616' AS DECIMAL(38, 0))": [2**64],
            "CAST('2024-02-29' AS DATE)": [datetime.date(2024, 2, 29)], "CAST('2024-02-29T12:30:00' AS TIMESTAMP)": [datetime.datetime(2024, 2, 29, 12, 30)],
            "'it''s'": [Word("it's")],
        }
        for text, given in values.items():
            for value in given:
                self.assertEqual(dd._sql_value(value), text)
        self.assertEqual(dd._values([Colour.RED, Word("it's"), None, math.nan, True, datetime.date(2024, 1, 2)]), [3, "it's", None, None, True, "2024-01-02"])
        for value in (b"bytes", 1j, [1], {}, object(), decimal.Decimal(1), datetime.timedelta(1)):
            self.assertRaises(TypeError, dd._sql_value, value)
        for value in (10**38, datetime.datetime.now(datetime.timezone.utc)):
            self.assertRaises(ValueError, dd._sql_value, value)

    @unittest.skipUnless(HAS_PANDAS, "pandas is not installed")
    def test_values_of_numpy_and_pandas(self):
        import numpy
        import pandas

        pairs = [(numpy.int64(5), "5"), (numpy.float32(0.5), "0.5"), (numpy.bool_(True), "true"), (numpy.str_("it's"), "'it''s'"), (pandas.NA, "NULL"), (pandas.NaT, "NULL"), (numpy.nan, "NULL"),
                 (pandas.Timestamp("2024-01-02 03:04:05"), "CAST('2024-01-02T03:04:05' AS TIMESTAMP)"), (numpy.datetime64("2024-01-02"), "CAST('2024-01-02' AS DATE)")]
        for value, text in pairs:
            self.assertEqual(dd._sql_value(value), text)
        self.assertEqual(last(frame().x.isin(pandas.Series([1, 2]))), {"isin": {"values": [1, 2], "column": "x"}})
        self.assertEqual(last(frame().x.isin(numpy.array([1.5]))), {"isin": {"values": [1.5], "column": "x"}})

    def test_missing_values_are_not_compared(self):
        for value in (None, math.nan):
            self.assertRaisesRegex(ValueError, "isna", lambda value=value: frame().x == value)
        self.assertRaisesRegex(ValueError, "replaces nothing", frame().fillna, None)

    def test_conditions_are_joined_by_signs(self):
        for condition in (lambda df: (df.x > 1) and (df.x < 3), lambda df: 1 < df.x < 3, lambda df: not df.flag):
            self.assertRaisesRegex(TypeError, "& | ~", condition, frame())


class Lists(unittest.TestCase):
    def test_the_list_of_each_operation(self):
        df = frame()
        expected = [
            (df[["x", "y"]], {"select": {"columns": ["x", "y"]}}), (df.x, {"select": {"columns": ["x"]}}), (df["a b"], {"select": {"columns": ["a b"]}}),
            (df.head(3, compute=False), {"head": {"n": 3, "partitions": 1}}), (df.head(3, npartitions=-1, compute=False), {"head": {"n": 3, "partitions": -1}}), (df.tail(2, compute=False), {"tail": {"n": 2}}),
            (df.query("x > 3 and name = 'Ada'"), {"query": {"predicate": "x > 3 and name = 'Ada'"}}), (df[df.x > 3], {"query": {"predicate": '(("x" > 3) IS TRUE)'}}),
            (df.isin([1, "a", None]), {"isin": {"values": [1, "a", None]}}), (df.x.isin([1]), {"isin": {"values": [1], "column": "x"}}),
            (df.assign(y=df.x * 2), {"assign": {"columns": [["y", '("x" * 2)']]}}), (df.assign(y="text"), {"assign": {"columns": [["y", "'text'"]]}}),
            (df.assign(y=df.apply("length(name)")), {"assign": {"columns": [["y", "(length(name))"]]}}),
            (df.apply("x * 2"), {"apply": {"expression": "x * 2"}}), (df.apply("x * 2", name="y"), {"apply": {"expression": "x * 2", "as": "y"}}), (df.x * 2, {"apply": {"expression": '("x" * 2)', "as": "x"}}),
            (df.name.apply("upper"), {"apply": {"function": "upper", "column": "name", "as": "name"}}),
            (df.sort_values("x", ascending=False), {"sort_values": {"by": ["x"], "ascending": [False]}}), (df.sort_values(["x", "y"]), {"sort_values": {"by": ["x", "y"], "ascending": [True]}}),
            (df.drop(columns="x"), {"drop": {"columns": ["x"]}}), (df.drop("x", axis=1), {"drop": {"columns": ["x"]}}), (df.rename(columns={"x": "z", "y": "y"}), {"rename": {"columns": {"x": "z"}}}),
            (df.fillna(0), {"fillna": {"value": 0}}), (df.x.fillna(0), {"fillna": {"value": 0, "columns": ["x"]}}), (df.assign(x=df.x.fillna(0)), {"fillna": {"value": 0, "columns": ["x"]}}),
            (df.dropna(), {"dropna": {"how": "any"}}), (df.dropna(how="all", subset="x"), {"dropna": {"how": "all", "subset": ["x"]}}), (df.persist(), {"persist": {}}), (df.sql("select 1 from df"), {"sql": {"query": "select 1 from df"}}),
            (df.merge(dd.read_csv("b.csv"), on="id", how="left"), {"merge": {"right": [{"read_csv": {"paths": ["b.csv"]}}], "how": "left", "left_on": ["id"], "right_on": ["id"]}}),
            (df.describe(), {"describe": {}}), (df.x.describe(), {"describe": {"columns": ["x"]}}), (df.x.unique(), {"unique": {"column": "x"}}), (df.x.value_counts(), {"value_counts": {"column": "x"}}),
            (df.max(), {"max": {}}), (df.sum(), {"sum": {}}), (df[["x"]].mean(), {"mean": {}}), (df.mean()["x"], {"mean": {"columns": ["x"]}}), (df.x.std(), {"std": {"columns": ["x"]}}),
        ]
        for rows, operation in expected:
            operations = getattr(rows, "operations", None) or rows._operations
            self.assertEqual((operations[0], operations[-1]), (SOURCE, operation))

    def test_groups(self):
        df = frame()
        expected = [
            (df.groupby("k").x.mean(), ["mean(x)"]), (df.groupby("k")[["x", "y"]].sum(), ["sum(x) as x", "sum(y) as y"]), (df.groupby("k").size(), ["size()"]),
            (df.groupby("k").agg({"x": "sum", "y": ["min", "max"]}), ["sum(x)", "min(y)", "max(y)"]), (df.groupby("k").agg(total=("x", "sum"), rows=("x", "size")), ["sum(x) as total", "size() as rows"]),
            (df.groupby("k").x.agg(["min", "max"]), ["min(x) as min", "max(x) as max"]), (df.groupby("k").x.agg(total="sum"), ["sum(x) as total"]), (df.groupby("k")["a) as b"].max(), ['max("a) as b")']), (df.groupby("k").agg({'"q"': "min"}), ['min(""q"") as "\"q\""']),
        ]
        for rows, aggregates in expected:
            grouped = next(operation for operation in rows.operations if "groupby" in operation)
            self.assertEqual(grouped, {"groupby": {"by": ["k"], "agg": aggregates}})
        # What an aggregate cannot be named is renamed.
        self.assertEqual(df.groupby("k")[["f(x)"]].sum().operations[1:], [{"groupby": {"by": ["k"], "agg": ['sum("f(x)")']}}, {"rename": {"columns": {"sum(f(x))": "f(x)"}}}])
        self.assertEqual(df.groupby("size").size().operations[1]["groupby"]["agg"], ["size() as size_"])
        self.assertEqual(df.groupby(["a", df.b]).x.sum().operations[1]["groupby"]["by"], ["a", "b"])

    def test_reading(self):
        def options(*arguments, **given):
            return dd.read_csv(*arguments, **given).operations[0]["read_csv"]

        self.assertEqual(options(["a.csv", "b.csv"]), {"paths": ["a.csv", "b.csv"]})
        self.assertEqual(options("a", sep=";", quotechar="'", header=None), {"paths": ["a"], "separator": ";", "quote": "'", "header": False})
        self.assertEqual(options("a", dtype={"x": float, "y": "Int64", "z": str}, parse_dates=["d"])["dtypes"], {"x": "float64", "y": "int64", "z": "string", "d": "datetime"})
        self.assertEqual(options("a", na_values=["?"])["null_words"], [*dd.NULL_WORDS, "?"])
        self.assertEqual(options("a", na_values=["", "?"], keep_default_na=False)["null_words"], ["?"])
        self.assertEqual([options("a", blocksize=size)["blocksize"] for size in (4096, "16MiB", "64 MB", None)], [4096, 16 << 20, 64_000_000, 1 << 40])
        self.assertEqual([options("a", compression=way)["compression"] for way in (None, "gzip")], ["none", "gzip"])
        for wrong in ({"sep": "ab"}, {"sep": "ñ"}, {"blocksize": 0}, {"blocksize": "many"}, {"compression": "bz2"}, {"dtype": {"x": "complex"}}):
            self.assertRaises(ValueError, dd.read_csv, "a", **wrong)
        for wrong in ({"header": 2}, {"keep_default_na": False}, {"parse_dates": True}):
            self.assertRaises(NotImplementedError, dd.read_csv, "a", **wrong)
        for wrong in ({"usecols": ["x"]}, {"index_col": 0}, {"dtype": "float64"}, {"na_values": {"x": "?"}}):
            self.assertRaises(TypeError, dd.read_csv, "a", **wrong)

    def test_columns_of_one_frame(self):
        df = frame()
        doubled = df.x * 2
        df["y"] = doubled
        df["z"] = doubled + df.y
        self.assertEqual([operation["assign"]["columns"] for operation in df.operations[1:]], [[["y", '("x" * 2)']], [["z", '(("x" * 2) + "y")']]])
        df["self"] = doubled
        df["x"] = 0
        self.assertRaisesRegex(ValueError, "has changed", lambda: df.assign(w=doubled))
        self.assertRaisesRegex(ValueError, "another frame", lambda: df.assign(w=dd.read_csv("b.csv").x))
        self.assertRaisesRegex(ValueError, "another frame", lambda: df[dd.read_csv("b.csv").x > 1])
        copied = df.copy()
        copied["w9"] = 1
        self.assertNotIn("w9", json.dumps(df.operations))

    def test_a_condition_of_an_earlier_frame(self):
        df = frame()
        self.assertEqual([next(iter(operation)) for operation in df[["name"]][df.x > 3].operations], ["read_csv", "query", "select"])
        self.assertRaises(ValueError, lambda: df.head(3, compute=False)[df.x > 3])

    def test_what_cannot_be_done_is_refused(self):
        df = frame()
        refusals = [
            (TypeError, "not sent to the cluster", lambda: df.apply(lambda row: row.x)), (TypeError, "not sent to the cluster", lambda: df.x.apply(len)), (TypeError, "not sent to the cluster", lambda: df.groupby("k").x.agg(max)),
            (AttributeError, "no labels", lambda: df.iloc), (AttributeError, "len", lambda: df.shape), (AttributeError, "not sent", lambda: df.x.map_partitions), (AttributeError, "no operation `haed`", lambda: df.haed(3)),
            (AttributeError, "adds a column", lambda: setattr(df, "y", 1)), (NotImplementedError, "order of their keys", lambda: df.groupby("k", sort=False)), (NotImplementedError, "left out", lambda: df.groupby("k", dropna=False)),
            (ValueError, "between 1 and 3", lambda: df.query("1 < x < 3")), (ValueError, "how", lambda: df.merge(df, on="x", how="cross")), (NotImplementedError, "suffixes", lambda: df.merge(df, on="x", suffixes=("_l", "_r"))),
            (ValueError, "whole number", lambda: df.head(-1)), (ValueError, "npartitions", lambda: df.head(1, npartitions=0)), (NotImplementedError, "ddof", lambda: df.x.std(ddof=0)), (ValueError, "ascending", lambda: df.sort_values("x", ascending=[True, False])),
            (TypeError, "list of values", lambda: df.x.isin("abc")), (NotImplementedError, "reset_index", lambda: df.groupby("k")[["x"]].sum().merge(df, on="x")), (TypeError, "unexpected keyword", lambda: df.head(n=3, rows=3)),
            (TypeError, "names of columns", lambda: df[[1]]), (NotImplementedError, "a name first", lambda: df.groupby(df.x % 2)), (TypeError, "df\\[…\\]", lambda: df[1:3]), (TypeError, "compute", lambda: iter(df.x)), (ValueError, "name of a function", lambda: df.x.apply("x * 2")),
            (ValueError, "address", lambda: dd.Client("ftp://a:1")), (ValueError, "address", lambda: dd.Client("http://a")), (ValueError, "an aggregate", lambda: df.groupby("k").agg({"x": "median"})),
        ]
        for kind, text, call in refusals:
            self.assertRaisesRegex(kind, text, call)


class Results(unittest.TestCase):
    def test_plain_results(self):
        with mock.patch.object(dd, "_find", lambda module: None), answering(("k", "str", ["a", None]), ("x", "int64", [1, None])) as client:
            df = frame()
            self.assertEqual(df.compute(), [{"k": "a", "x": 1}, {"k": None, "x": None}])
            self.assertEqual(df.groupby("k").x.sum().compute(), {"a": 1, None: None})
            self.assertEqual(df.max().compute(), {"k": "a", "x": 1})
            self.assertEqual(dd.compute(df.k.max(), 7), ("a", 7))
            self.assertEqual(client._way.lists[-1], [SOURCE, {"max": {"columns": ["k"]}}])
            with tempfile.TemporaryDirectory() as folder:
                df.to_csv(os.path.join(folder, "a.csv"))
                with open(os.path.join(folder, "a.csv"), encoding="utf-8") as file:
                    self.assertEqual(file.read(), "k,x\na,1\n,\n")
            self.assertRaisesRegex(dd.DataFrameError, "pip install pyarrow", df.to_parquet, "a.parquet")

    def test_a_value_in_an_expression_is_computed(self):
        with mock.patch.object(dd, "_find", lambda module: None), answering(("x", "float64", [2.5])):
            df = frame()
            self.assertEqual(sql(df.x - df.x.mean()), '("x" - 2.5)')
            self.assertEqual((df.x.max() - df.x.min()).compute(), 0.0)
            self.assertEqual(sql(df.x.min() + df.x), '(2.5 + "x")')

    @unittest.skipUnless(HAS_PANDAS, "pandas is not installed")
    def test_objects_of_pandas(self):
        import pandas

        with answering(("k", "str", ["a", "b"]), ("x", "int64", [1, None])):
            df = frame()
            pandas.testing.assert_series_equal(df.groupby("k").x.sum().compute(), pandas.Series([1, None], index=pandas.Index(["a", "b"], name="k", dtype=dd._text_dtype(pandas)), name="x", dtype="Int64"))
            self.assertEqual(list(df.groupby("k").x.sum().reset_index().compute().columns), ["k", "x"])
            self.assertEqual(list(df.compute().index), [0, 1])
        with answering(("k", "str", ["a"]), ("min(x)", "float64", [1.0]), ("max(x)", "float64", [2.0])):
            self.assertEqual(list(df.groupby("k").agg({"x": ["min", "max"]}).compute().columns), [("x", "min"), ("x", "max")])
        with answering(("x", "int64", [2**60]), ("y", "float64", [0.5])):
            self.assertEqual(list(df.max().compute()), [2**60, 0.5])

    def test_the_plain_reader_reads_arrow(self):
        table = dd._read_plainly(STREAM)
        self.assertEqual(table.names, ["text", "n", "x", "flag", "day", "time"])
        self.assertEqual(table.rows(), [
            ("a", 1, 0.5, True, datetime.date(2024, 2, 29), datetime.datetime(2024, 2, 29, 12, 30)), (None, None, math.inf, None, None, None),
            ("a text of more than twelve bytes", 3, -2.0, False, datetime.date(1969, 12, 31), datetime.datetime(1969, 12, 31, 23, 59, 59))])

    def test_a_broken_stream_is_refused(self):
        for length in range(len(STREAM)):
            self.assertRaises(dd.DataFrameError, dd._read_plainly, STREAM[:length])
        for place in range(len(STREAM)):
            for flipped in (0x01, 0x80, 0xFF):
                broken = bytearray(STREAM)
                broken[place] ^= flipped
                try:
                    dd._read_plainly(bytes(broken)).rows()
                except (dd.DataFrameError, OverflowError):
                    pass  # other values in the right shape are no matter of the format

    @unittest.skipUnless(HAS_PYARROW and HAS_PANDAS, "pyarrow is not installed")
    def test_the_plain_reader_gives_what_pyarrow_gives(self):
        import pandas
        import pyarrow

        kinds = {"bool": [True, None, False], "date32": [datetime.date(2024, 1, 2), None, datetime.date(1900, 1, 1)], "string": ["a", None, "ñ" * 20], "large_string": ["", None, "b"], "string_view": ["short", None, "x" * 100],
                 "timestamp[us]": [datetime.datetime(2024, 1, 2, 3, 4, 5, 6), None, datetime.datetime(1, 1, 1)], "timestamp[ns]": [datetime.datetime(2024, 1, 2), None, datetime.datetime(1970, 1, 1)], "null": [None] * 3,
                 "decimal128(20, 2)": [decimal.Decimal("-1.50"), None, decimal.Decimal("12345678901234.25")], **{name: [1, None, 3] for name in ("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64", "float32", "float64")}}
        types = {**{name: pyarrow.type_for_alias(name) for name in kinds if "(" not in name}, "decimal128(20, 2)": pyarrow.decimal128(20, 2)}
        whole = pyarrow.table([pyarrow.array(values, type=types[name]) for name, values in kinds.items()], names=list(kinds))
        for table in (whole, whole.slice(0, 1), whole.slice(0, 0), pyarrow.concat_tables([whole] * 3)):
            sink = io.BytesIO()
            with pyarrow.ipc.new_stream(sink, table.schema) as stream:
                stream.write_table(table, max_chunksize=2)
            plain, arrow = dd._read_plainly(sink.getvalue()), dd._read_arrow(sink.getvalue())
            self.assertIsInstance(arrow, dd._ArrowTable)
            self.assertEqual(plain.names, arrow.names)
            self.assertEqual(plain.rows(), arrow.rows())
            pandas.testing.assert_frame_equal(plain.pandas(), arrow.pandas())


class FakeMaster:
    """A master over XML-RPC that gives what a test tells it to."""

    def __init__(self, answers):
        self.requests, self.answers = [], list(answers)
        self.server = xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False)
        for name, method in (("call", self.call), ("more", self.more)):
            self.server.register_function(method, name)
        self.address = f"http://127.0.0.1:{self.server.server_address[1]}"

    def __enter__(self):
        threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.server.shutdown()
        self.server.server_close()

    def call(self, request):
        self.requests.append(json.loads(request.data.split(b"\n", 1)[0])["message"])
        return self.next()

    def more(self, reply, received):
        self.requests.append((reply, received))
        return self.next()

    def next(self):
        answer = self.answers.pop(0)
        if isinstance(answer, xmlrpc.client.Fault):
            raise answer
        pieces, is_last = answer
        return {"id": "" if is_last else "R", "pieces": [xmlrpc.client.Binary(piece) for piece in pieces], "last": is_last}


def piece(message, body=b""):
    return json.dumps({"version": 1, "bytes": len(body), "message": message}).encode() + b"\n" + body


def finished(pieces):
    return piece({"finished": {"rows": 3, "pieces": pieces, "micros": 1}})


class OverXmlRpc(unittest.TestCase):
    def computed(self, *answers, **settings):
        with FakeMaster(answers) as master, dd.Client(master.address, **settings) as client:
            self.master = master
            return client.run([SOURCE]).rows()

    def test_a_result_comes_in_pieces(self):
        progress = []
        rows = self.computed(([piece({"progress": {"done": 1, "total": 2, "running": 1}})], False), ([], False), ([piece({"result": {"piece": 0}}, STREAM[:100])], False),
                             ([piece({"result": {"piece": 1}}, STREAM[100:]), finished(2)], True), on_progress=progress.append)
        self.assertEqual(len(rows), 3)
        self.assertEqual([answer["done"] for answer in progress], [1])
        self.assertEqual(self.master.requests[1:], [("R", 1), ("R", 1), ("R", 2)])
        submitted = self.master.requests[0]["submit"]
        self.assertEqual((submitted["operations"], submitted["explain"], len(submitted["job"])), ([SOURCE], False, 26))

    def test_what_breaks_off_is_sent_again_under_its_id(self):
        whole = ([piece({"result": {"piece": 0}}, STREAM), finished(1)], True)
        for broken in (xmlrpc.client.Fault(4, "busy"), ([piece({"result": {"piece": 1}}, STREAM), finished(1)], True), ([piece({"result": {"piece": 0}}, STREAM), finished(2)], True), ([], True)):
            self.assertEqual(len(self.computed(broken, whole)), 3)
            jobs = {request["submit"]["job"] for request in self.master.requests}
            self.assertEqual((len(self.master.requests), len(jobs)), (2, 1))

    def test_a_failure_has_the_words_of_the_master(self):
        with self.assertRaises(dd.DataFrameError) as caught:
            self.computed(([piece({"failed": {"code": "bad-job", "message": "there is no column \"z\""}})], True))
        self.assertEqual((str(caught.exception), caught.exception.code), ("there is no column \"z\"", "bad-job"))

    def test_a_user_who_gives_up_tells_the_master(self):
        def give_up(_):
            raise KeyboardInterrupt

        answers = [([piece({"progress": {"done": 0, "total": 2, "running": 1}})], False), ([piece("accepted")], True)]
        self.assertRaises(KeyboardInterrupt, self.computed, *answers, on_progress=give_up)
        submitted, cancelled = self.master.requests
        self.assertEqual(cancelled, {"cancel": {"job": submitted["submit"]["job"]}})

    def test_what_is_no_master(self):
        for answer in (xmlrpc.client.Fault(-32601, "there is no method"), ([b"junk"], True), ([b"{}\n"], True), ([piece({"result": {"piece": 0}}, b"short")[:-1]], True), ([piece({"result": {"piece": 0}}, b"junk"), finished(1)], True)):
            with mock.patch.object(dd, "_find", lambda module: None):
                self.assertRaises(dd.DataFrameError, self.computed, answer)

    def test_a_master_that_is_not_there(self):
        with socket.create_server(("127.0.0.1", 0)) as listener:
            address = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with dd.Client(address, wait=0) as client:
            self.assertRaisesRegex(dd.DataFrameError, "does not answer.*Is dataframe-master running", client.run, [SOURCE])

    def test_a_list_that_is_too_long(self):
        with dd.Client("http://127.0.0.1:1"):
            self.assertRaisesRegex(dd.DataFrameError, "bytes, and may have", frame().x.isin(["x" * (5 << 20)]).compute)

    def test_ids_are_ulids_in_order(self):
        ids = [dd._ulid() for _ in range(100)]
        self.assertTrue(all(re.fullmatch("[0-7][0-9A-HJKMNP-TV-Z]{25}", job) for job in ids))
        self.assertEqual(len(set(ids)), 100)


@unittest.skipUnless(HAS_PYARROW, "pyarrow is not installed")
class OverFlight(unittest.TestCase):
    def test_the_command_is_the_list_of_operations(self):
        import pyarrow
        import pyarrow.flight as flight

        commands = []

        class Server(flight.FlightServerBase):
            def get_flight_info(self, context, descriptor):
                commands.append(json.loads(descriptor.command))
                if "query" in commands[-1][-1]:
                    raise flight.FlightServerError("query: there is no column \"z\"")
                ticket = flight.FlightEndpoint(flight.Ticket(b"1"), [])
                return flight.FlightInfo(pyarrow.schema([("x", pyarrow.int64())]), descriptor, [ticket], 2, -1)

            def do_get(self, context, ticket):
                return flight.RecordBatchStream(pyarrow.table({"x": [1, None]}))

        with Server("grpc://127.0.0.1:0") as server, dd.Client(f"grpc://127.0.0.1:{server.port}") as client:
            self.assertEqual(client.run([SOURCE]).rows(), [(1,), (None,)])
            self.assertEqual(commands, [[SOURCE]])
            with self.assertRaises(dd.DataFrameError) as caught:
                frame().query("z > 1").compute()
            self.assertTrue(str(caught.exception).startswith("query: there is no column \"z\""), caught.exception)
            self.assertRaisesRegex(dd.DataFrameError, "XML-RPC only", frame().explain)
            address = client.address
        with dd.Client(address, wait=0):
            self.assertRaisesRegex(dd.DataFrameError, "does not answer", frame().compute)


if __name__ == "__main__":
    unittest.main()
