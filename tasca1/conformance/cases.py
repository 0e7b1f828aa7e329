"""What is compared with Dask: files, lists of operations, and the Dask code for the same.

A case is a list of operations in the language of `dataframe`, and a function that computes the same with Dask. Nothing here is an
expected value: those come from Dask whenever the cases run.

Where `dataframe` differs from Dask on purpose, a case names the difference (one of DIFFERENCES) and a second function,
`instead`, that gives with Dask what `dataframe` gives, or FAILS. Such a case passes if the answer is equal to `instead` and is
not equal to Dask's: a difference that is gone has to be taken out here. A file may differ as a whole, because Dask takes other
types: its cases differ where the types show. The table in ../README.md is made from this file.

The same functions also run with the client in ../python in place of Dask: `library` is what they compute with. A case whose
function gives Dask a Python function, which cannot travel, says so; the client then gets the list of operations, method by method.
"""

import dask.dataframe as dd
import numpy
import pandas
from dataclasses import dataclass, field
from typing import Callable

FAILS = "fails"
#: What `read` and the functions of the cases compute with: `dask.dataframe`, or the client in ../python.
library = dd
LARGEST = numpy.finfo("float64").max


@dataclass(frozen=True)
class Difference:
    """Something that `dataframe` does on purpose in another way than Dask."""

    what: str
    dask: str
    ours: str
    why: str


DIFFERENCES = {
    "late-types": Difference(
        "A value further down does not fit the type that was inferred",
        "fails: `Mismatched dtypes`", "widens the type and starts again", "the result must not depend on what a sample happens to show"),
    "integers-with-nulls": Difference(
        "Integers with nulls", "`float64`", "`int64`", "Arrow has nulls in every type, so that integers of more than 53 bits stay exact"),
    "booleans-with-nulls": Difference(
        "Truth values with nulls", "the words `True` and `False`", "`bool`", "Arrow has nulls in every type"),
    "big-integers": Difference(
        "Integers from 2⁶³ to 2⁶⁴ − 1", "`uint64`, whose sum overflows without a word", "`string`, as all integers that 64 bits with a sign do not hold", "no digit is lost, and no number is read as another one; `--dtype x=float64` makes numbers of them"),
    "other-columns": Difference(
        "One of several files has other columns", "adds the columns, with nulls for the other files", "fails, and names both files", "a column too much is more often the wrong file"),
    "ragged-lines": Difference(
        "Every line has more fields than the header", "takes the first field as the index, and drops it", "fails, and names file and line", "there is no index here, and no value is dropped without a word"),
    "infinity": Difference(
        "Sum, mean and deviation of ∞ and −∞ together, and quartiles of numbers among which is ∞",
        "0, or ∞ for the deviation of a group, because a missing partial result is skipped in the next step; a quartile is missing",
        "missing, as in pandas; a quartile that is one of the numbers is that number", "∞ − ∞ is no number, but which number lies in the middle can still be told"),
    "smallest-infinity": Difference(
        "`min` of a group in which each number is ∞, and `max` of one in which each is −∞", "∞, and −∞", "1.8 · 10³⁰⁸ and −1.8 · 10³⁰⁸, the largest and the smallest finite number",
        "DataFusion starts the `min` of a group with the largest finite number, and ∞ is not smaller than that; over a whole column it is right"),
    "quartiles": Difference(
        "The quartiles of `describe` over several partitions", "approximate: they are put together from those of each partition", "exact", "the result must not depend on where a file is cut"),
    "describe-booleans": Difference(
        "`describe` of truth values", "leaves them out beside numbers, and tells the most frequent one otherwise", "counts them as 0 and 1", "`sum`, `mean` and `std` do so too, here and in Dask"),
    "mean-of-integers": Difference(
        "Mean of integers of more than 53 bits", "the sum in integers, which may overflow without a word, divided by the count", "the mean of the numbers as `float64`, as in pandas: what 53 bits do not hold is lost",
        "DataFusion's mean is one of `float64`, which does not overflow; `sum` keeps each digit of a total that 64 bits hold"),
    "spread-of-integers": Difference(
        "Deviation of a group of integers of more than 26 bits", "may be 0, because it subtracts sums of squares whose last digits are lost", "that of pandas", "the squares are summed together with their rounding errors"),
    "null-keys": Difference(
        "Null keys in the `mean`, `std` and `var` of `groupby`", "`groupby(…).mean()` keeps them, whereas `groupby(…).agg(\"mean\")` and all other aggregates drop them", "always drops them",
        "all aggregates of one `agg` have the same groups"),
    "isin-null": Difference(
        "`isin` with a null among the values", "finds missing text, but no missing number", "finds whatever is missing", "the type of a column does not change what a list of values means"),
    "integer-division": Difference(
        "`x / 2` of integers", "divides as numbers with a point: 1 / 2 is 0.5", "divides as integers: 1 / 2 is 0", "expressions are SQL, and DataFusion's SQL divides integers so; `x / 2.0` gives 0.5"),
    "fillna-type": Difference(
        "`fillna` of a column with a value that is not of its type", "fills it in, and the column has values of two types; where nothing is missing, nothing happens", "fails, and names column and type",
        "a column has one type, and whether a list of operations is right must not depend on whether something is missing"),
    "text-sum": Difference(
        "`sum` of a column of text, or of a file that has a header and no rows", "joins the texts", "fails, and names column and type",
        "one value that is no number would make a long text of a sum; `--dtype x=float64` makes numbers of a column of which no value shows the type"),
    "no-numbers": Difference(
        "Sum, mean or deviation of a frame that has no column of numbers", "a result without columns", "fails, and says so", "a frame without columns hides that a column was read as text"),
    "describe-text": Difference(
        "`describe` of a frame that has no column of numbers", "count, distinct values and the most frequent one of each column", "fails, and says so",
        "the rows of the result do not depend on the data; `nunique` and `value_counts` tell the rest"),
}


@dataclass
class Case:
    """One list of operations and the Dask code for the same."""

    name: str
    operations: list
    dask: Callable
    ordered: bool = True
    differs: str | None = None
    instead: Callable | str | None = None
    #: The case differs only where `instead` gives something else than Dask.
    perhaps: bool = False
    #: The Dask code has a Python function or an expression of Python in it, which no other library can run on a cluster.
    has_python: bool = False


@dataclass
class File:
    """A file, and how both sides are told to read it."""

    name: str
    options: dict = field(default_factory=dict)
    dask: dict = field(default_factory=dict)
    #: Columns for the operations that need one: keys, and a column of numbers.
    key: str = "name"
    number: str = "x"
    #: A difference of the whole file, and how Dask is told to read it as `dataframe` does, or FAILS.
    differs: str | None = None
    instead: dict | str | None = None


# How each file is difficult is in its name; data/ holds them, and conformance.py makes those that are large or binary.
FILES = [
    File("plain.csv"),
    File("nulls.csv", differs="integers-with-nulls", instead={"dtype": {"x": "Int64"}}),
    File("all-null.csv"),
    File("null-words.csv", number="a", differs="integers-with-nulls", instead={"dtype": {"a": "Int64", "b": "Int64"}}),
    File("nan.csv"),
    File("infinity.csv"),
    File("quotes.csv"),
    File("newlines.csv"),
    File("empty.csv"),
    File("header-only.csv"),
    File("one-column.csv", key="x"),
    File("one-row.csv"),
    File("one-column-nulls.csv", number="name"),
    File("dates.csv", key="day"),
    File("datetimes.csv", key="time"),
    File("datetimes-space.csv", key="time"),
    File("big-integers.csv", number="a"),
    File("unsigned-integers.csv", number="a", differs="big-integers", instead={"dtype": {"a": str}}),
    File("mixed.csv", key="a", number="b"),
    File("numbers.csv", key="c", number="a"),
    File("leading-zeros.csv", key="code"),
    File("utf8.csv"),
    File("utf8-names.csv", key="nombre completo", number="año"),
    File("utf8-bom.csv"),
    File("latin1.csv"),
    File("crlf.csv"),
    File("no-final-newline.csv"),
    File("blank-lines.csv"),
    File("ragged-short.csv", differs="integers-with-nulls", instead={"dtype": {"x": "Int64", "y": "Int64"}}),
    File("ragged-long.csv"),
    File("ragged-all-long.csv", differs="ragged-lines", instead=FAILS),
    File("duplicate-names.csv"),
    File("empty-name.csv"),
    File("booleans.csv", key="a"),
    File("booleans-null.csv", number="flag", differs="booleans-with-nulls", instead={"dtype": {"flag": "boolean"}}),
    File("spaces.csv", key="y", number="y"),
    File("unclosed-quote.csv"),
    File("semicolon.csv", {"separator": ";"}, {"sep": ";"}),
    File("tab.csv", {"separator": "\t"}, {"sep": "\t"}),
    File("single-quote.csv", {"quote": "'"}, {"quotechar": "'"}),
    File("no-header.csv", {"header": False}, {"header": None}, key="0", number="1"),
    File("other-columns.csv"),
    # Made by conformance.py.
    File("long-fields.csv"),
    File("compressed.csv.gz", dask={"compression": "gzip", "blocksize": None}),
    File("many/*.csv"),
]


def read(names, **options):
    """The Dask frame of one file or several, looked into once. Column names are text, as in `dataframe`."""
    wanted = (library.__name__, repr((names, options)))
    if wanted not in looked_into:
        looked_into[wanted] = opened(names, options)
    return looked_into[wanted]


looked_into = {}


def opened(names, options):
    """The Dask frame of one file or several."""
    frame = library.read_csv(names, **options)
    return frame.rename(columns={column: str(column) for column in frame.columns})


def one_row(series):
    """A row of aggregates as a frame of one row."""
    computed = series.compute() if hasattr(series, "compute") else series
    return pandas.DataFrame([list(computed.array)], columns=list(computed.index), dtype=object)


def each_column(function, only=None):
    """An aggregate of each column by itself, as a frame of one row."""

    def aggregate(df):
        columns = [column for column in df.columns if only is None or column in only]
        results = library.compute(*[getattr(df[column], function)() for column in columns])
        return pandas.DataFrame([list(results)], columns=columns, dtype=object)

    return aggregate


def dtype_name(dtype):
    """pandas' type in the words of `dataframe`."""
    text = str(dtype)
    if text.startswith(("datetime64", "timestamp")):
        return "datetime"
    return {"object": "string", "str": "string", "Int64": "int64", "Float64": "float64", "boolean": "bool"}.get(text, text)


def dtypes(df):
    """Names and types."""
    types = df.dtypes
    return pandas.DataFrame({"column": list(types.index), "dtype": [dtype_name(dtype) for dtype in types]})


def tell(name, result):
    """One value under a name."""
    return pandas.DataFrame({name: [result]})


def whole(df):
    """The frame, computed."""
    return df.compute()


def counts(df, column):
    """How often each value occurs."""
    return df[column].value_counts().compute().rename_axis(column).reset_index(name="count")


def described_exactly(df):
    """`describe` of all numbers together, with truth values as 0 and 1, and quartiles that are exact."""
    numbers = df.compute().select_dtypes(["number", "bool", "boolean"]).astype("float64")
    result = numbers.describe()
    for quartile in (0.25, 0.5, 0.75):
        below, between, above = (numbers.quantile(quartile, interpolation=way) for way in ("lower", "linear", "higher"))
        result.loc[f"{quartile:.0%}"] = between.where(below != above, below)
    return result.rename_axis("statistic").reset_index()


def described(df):
    """`describe`, with the statistics' names as the first column."""
    return df.describe().compute().rename_axis("statistic").reset_index()


def grouped(by, *aggregates, dropna=None):
    """`groupby(...).agg(...)`; an aggregate is written `mean(x)`, or `mean(x) as name`. The result of `size()` is named `size`."""

    def compute(df):
        columns = []
        for written in aggregates:
            text, _, name = written.partition(" as ")
            function, _, column = text.rstrip(")").partition("(")
            groups = df.groupby(list(by), **({} if dropna is None else {"dropna": dropna}))
            result = groups.size() if function == "size" else getattr(groups[column], function)()
            columns.append(result.rename(name or ("size" if function == "size" else written)))
        computed = library.compute(*columns)
        return pandas.concat(computed, axis=1).sort_index().reset_index()

    return compute


def every_operation(file):
    """The operations that make sense on every file: name, operations, Dask code, whether rows have an order."""
    key, number = file.key, file.number
    some = [1, 2.5, "Ada", "x", True]
    yield "read_csv", [], whole, True
    yield "columns", [{"columns": {}}], lambda df: pandas.DataFrame({"column": list(df.columns)}), True
    yield "dtypes", [{"dtypes": {}}], dtypes, True
    yield "len", [{"len": {}}], lambda df: tell("len", len(df)), True
    yield "head", [{"head": {"n": 2}}], lambda df: df.head(2), True
    yield "head all", [{"head": {"n": 4, "partitions": -1}}], lambda df: df.head(4, npartitions=-1), True
    yield "tail", [{"tail": {"n": 2}}], lambda df: df.tail(2), True
    yield "items", [{"items": {}}], lambda df: pandas.concat(dict((name, column.compute()) for name, column in df.items()), axis=1), True
    for function in ("max", "min", "count", "nunique"):
        yield function, [{function: {}}], each_column(function), True
    for function in ("sum", "mean", "std", "var"):
        yield function, [{function: {}}], lambda df, function=function: one_row(getattr(df, function)(numeric_only=True)), True
    yield "max of one", [{"max": {"columns": [number]}}], each_column("max", [number]), True
    yield "min of one", [{"min": {"columns": [key]}}], each_column("min", [key]), True
    yield "describe", [{"describe": {}}], described, True
    yield "isin", [{"isin": {"values": some}}], lambda df: df.isin(some).compute(), True
    yield "isin of one", [{"isin": {"values": ["Ada", "Grace"], "column": key}}], lambda df: df[key].isin(["Ada", "Grace"]).compute(), True
    yield "isin numbers", [{"isin": {"values": [1, 3, 7], "column": number}}], lambda df: df[number].isin([1, 3, 7]).compute(), True
    yield "unique", [{"unique": {"column": key}}], lambda df: df[key].unique().compute(), False
    yield "value_counts", [{"value_counts": {"column": key}}], lambda df: counts(df, key), False
    yield "groupby", [{"groupby": {"by": [key], "agg": [f"count({number})"]}}], grouped([key], f"count({number})"), True
    yield "groupby max, min", [{"groupby": {"by": [key], "agg": [f"max({number})", f"min({number})"]}}], grouped([key], f"max({number})", f"min({number})"), True
    yield "sort_values", [{"sort_values": {"by": [number, key]}}], lambda df: df.sort_values([number, key]).compute(), True
    yield "sort_values down", [{"sort_values": {"by": [number], "ascending": [False]}}], \
        lambda df: df.sort_values(number, ascending=False, sort_function_kwargs={"kind": "stable"}).compute(), True
    yield "dropna", [{"dropna": {}}], lambda df: df.dropna().compute(), True
    yield "dropna all", [{"dropna": {"how": "all"}}], lambda df: df.dropna(how="all").compute(), True
    yield "dropna of one", [{"dropna": {"subset": [key]}}], lambda df: df.dropna(subset=[key]).compute(), True
    yield "fillna", [{"fillna": {"value": 0, "columns": [number]}}], lambda df: df.assign(**{number: df[number].fillna(0)}).compute(), True
    yield "fillna text", [{"fillna": {"value": "none", "columns": [key]}}], lambda df: df.assign(**{key: df[key].fillna("none")}).compute(), True
    yield "select", [{"select": {"columns": [number]}}], lambda df: df[[number]].compute(), True
    yield "drop", [{"drop": {"columns": [key]}}], lambda df: df.drop(columns=[key]).compute(), True
    yield "rename", [{"rename": {"columns": {key: "renamed"}}}], lambda df: df.rename(columns={key: "renamed"}).compute(), True
    yield "assign", [{"assign": {"columns": [["fixed", "7"]]}}], lambda df: df.assign(fixed=7).compute(), True
    yield "persist", [{"persist": {}}], lambda df: df.persist().compute(), True
    yield "sql", [{"sql": {"query": "select count(*) as rows from df"}}], lambda df: tell("rows", len(df)), True


def plain(*operations):
    """Operations on plain.csv."""
    return [{"read_csv": {"paths": ["plain.csv"]}}, *operations]


def source(name, **options):
    """A list of operations that reads one file."""
    return {"read_csv": {"paths": [name], **options}}


AGGREGATES = ("count", "sum", "mean", "max", "min", "std", "var", "nunique", "first", "last", "size")


def groupby_cases():
    """Every aggregate on files with nulls, NaN and infinity, one key and several, names of one's own."""
    for name, key, number in (("plain.csv", "name", "x"), ("nulls.csv", "name", "x"), ("nan.csv", "name", "x"), ("infinity.csv", "name", "x"),
                              ("many/*.csv", "name", "x"), ("big-integers.csv", "name", "b"), ("booleans.csv", "c", "x"), ("all-null.csv", "name", "x"),
                              ("header-only.csv", "name", "x"), ("compressed.csv.gz", "name", "x")):
        options = {"compression": "gzip", "blocksize": None} if name.endswith(".gz") else {}
        for function in AGGREGATES:
            aggregate = f"{function}()" if function == "size" else f"{function}({number})"
            case = Case(f"groupby {function} of {name}", [source(name), {"groupby": {"by": [key], "agg": [aggregate]}}],
                        lambda name=name, key=key, aggregate=aggregate, options=options: grouped([key], aggregate)(read(name, **options)))
            if name == "infinity.csv" and function in ("sum", "mean", "std", "var"):
                case.differs = "infinity"
                case.instead = lambda name=name, key=key, aggregate=aggregate: grouped([key], aggregate)(read(name).compute())
            elif name == "infinity.csv" and function == "min":
                case.differs = "smallest-infinity"
                case.instead = lambda name=name, key=key, aggregate=aggregate: grouped([key], aggregate)(read(name).replace(numpy.inf, LARGEST))
            elif name in ("nulls.csv", "nan.csv") and function in ("mean", "std", "var"):
                case.differs = "null-keys"
                case.instead = lambda name=name, key=key, aggregate=aggregate: grouped([key], aggregate, dropna=True)(read(name))
            elif name == "big-integers.csv" and function in ("std", "var"):
                case.differs = "spread-of-integers"
                case.instead = lambda name=name, key=key, aggregate=aggregate: grouped([key], aggregate)(read(name).compute())
            elif name == "header-only.csv" and function == "sum":
                case.differs, case.instead = "text-sum", FAILS
            yield case
    several = ["mean(x)", "sum(x) as total", "max(y)", "count(y)"]
    for name in ("plain.csv", "nulls.csv", "many/*.csv"):
        keys = ["name", "city"] if name == "plain.csv" else ["name"]
        case = Case(f"groupby {' and '.join(keys)} of {name}, several aggregates", [source(name), {"groupby": {"by": keys, "agg": several}}],
                    lambda name=name, keys=keys: grouped(keys, *several)(read(name)))
        if name == "nulls.csv":
            case.differs = "null-keys"
            case.instead = lambda name=name, keys=keys: grouped(keys, *several, dropna=True)(read(name))
        yield case
    yield Case("groupby two keys with nulls", [source("nulls.csv"), {"groupby": {"by": ["name", "note"], "agg": ["sum(x)"]}}],
               lambda: grouped(["name", "note"], "sum(x)")(read("nulls.csv")))
    for function in ("max", "min", "count", "nunique", "first", "last"):
        yield Case(f"groupby {function} of text", plain({"groupby": {"by": ["name"], "agg": [f"{function}(city)"]}}),
                   lambda function=function: grouped(["name"], f"{function}(city)")(read("plain.csv")))
    yield Case("groupby a key of numbers", plain({"groupby": {"by": ["x"], "agg": ["sum(y)"]}}), lambda: grouped(["x"], "sum(y)")(read("plain.csv")))
    yield Case("groupby a key of truth values", [source("booleans.csv"), {"groupby": {"by": ["a", "b"], "agg": ["sum(x)"]}}],
               lambda: grouped(["a", "b"], "sum(x)")(read("booleans.csv")))
    yield Case("groupby after query, then head", plain({"query": {"predicate": "x > 1"}}, {"groupby": {"by": ["name"], "agg": ["mean(y)"]}}, {"head": {"n": 2, "partitions": -1}}),
               lambda: grouped(["name"], "mean(y)")(read("plain.csv").query("x > 1")).head(2))


    yield Case("groupby max of -∞ alone", [source("infinity.csv"), {"query": {"predicate": "x < 0"}}, {"groupby": {"by": ["name"], "agg": ["max(x)"]}}],
               lambda: grouped(["name"], "max(x)")(read("infinity.csv").query("x < 0")), differs="smallest-infinity",
               instead=lambda: grouped(["name"], "max(x)")(read("infinity.csv").query("x < 0").replace(-numpy.inf, -LARGEST)))
    yield Case("groupby sum of text", plain({"groupby": {"by": ["name"], "agg": ["sum(city)"]}}), lambda: grouped(["name"], "sum(city)")(read("plain.csv")), differs="text-sum", instead=FAILS)


def expression_cases():
    """`apply`, `assign`, `query` and `sql`: expressions in SQL against the same in Python."""
    rows = {"x * 2 + length(name)": lambda row: row["x"] * 2 + len(row["name"]), "x / 2": lambda row: row["x"] / 2, "y": lambda row: row["y"],
            "abs(y)": lambda row: abs(row["y"]), "x % 3": lambda row: row["x"] % 3, "case when x > 3 then x else -x end": lambda row: row["x"] if row["x"] > 3 else -row["x"]}
    for expression, function in rows.items():
        case = Case(f"apply {expression}", plain({"apply": {"expression": expression}}),
                    lambda function=function: read("plain.csv").apply(function, axis=1, meta=("apply", "object")).compute().rename("apply"), has_python=True)
        if expression == "x / 2":
            case.differs = "integer-division"
            case.instead = lambda: (read("plain.csv").x // 2).rename("apply").compute()
        yield case
    texts = {"upper(name)": lambda row: row["name"].upper(), "name || '-' || city": lambda row: row["name"] + "-" + row["city"], "substr(city, 1, 3)": lambda row: row["city"][:3]}
    for expression, function in texts.items():
        yield Case(f"apply {expression}", plain({"apply": {"expression": expression, "as": "text"}}),
                   lambda function=function: read("plain.csv").apply(function, axis=1, meta=("text", "object")).compute().rename("text"), has_python=True)
    by_name = {"upper": lambda df: df.name.str.upper(), "lower": lambda df: df.city.str.lower(), "length": lambda df: df.city.str.len(), "abs": lambda df: df.y.abs(),
               "floor": lambda df: df.y.map_partitions(numpy.floor), "sqrt": lambda df: df.x.map_partitions(numpy.sqrt), "is_null": lambda df: df.name.isna(), "to_string": lambda df: df.x.astype(str)}
    columns = {"upper": "name", "lower": "city", "length": "city", "abs": "y", "floor": "y", "sqrt": "x", "is_null": "name", "to_string": "x"}
    for function, compute in by_name.items():
        yield Case(f"apply the function {function}", plain({"apply": {"function": function, "column": columns[function], "as": "result"}}),
                   lambda compute=compute: compute(read("plain.csv")).rename("result").compute(), has_python=function in ("floor", "sqrt"))
    for function in ("year", "month", "day", "hour", "minute", "second"):
        yield Case(f"apply the function {function}", [source("datetimes-space.csv", dtypes={"time": "datetime"}), {"apply": {"function": function, "column": "time", "as": "result"}}],
                   lambda function=function: getattr(read("datetimes-space.csv", parse_dates=["time"]).time.dt, function).rename("result").compute())
    yield Case("apply a function that is none", plain({"apply": {"function": "absent", "column": "x"}}), lambda: read("plain.csv").x.map_partitions(getattr(numpy, "absent")).compute(), has_python=True)
    yield Case("apply on a null", [source("nulls.csv"), {"apply": {"expression": "x + 1"}}], lambda: (read("nulls.csv").x + 1).rename("apply").compute())
    yield Case("apply on a quoted name", [source("utf8-names.csv"), {"apply": {"expression": "\"año\" + \"東京\" + \"UPPER\""}}],
               lambda: read("utf8-names.csv").apply(lambda row: row["año"] + row["東京"] + row["UPPER"], axis=1, meta=("apply", "int64")).compute().rename("apply"), has_python=True)
    yield Case("apply over UTF-8", [source("utf8.csv"), {"apply": {"expression": "length(name)"}}],
               lambda: read("utf8.csv").name.str.len().rename("apply").compute())
    yield Case("apply then max", plain({"apply": {"expression": "x * y"}}, {"max": {}}), lambda: tell("apply", (read("plain.csv").x * read("plain.csv").y).max().compute()))
    yield Case("assign one after the other", plain({"assign": {"columns": [["z", "x + 1"], ["x", "z * 2"]]}}),
               lambda: read("plain.csv").assign(z=lambda df: df.x + 1).assign(x=lambda df: df.z * 2).compute())
    yield Case("assign on nulls", [source("nulls.csv"), {"assign": {"columns": [["z", "x * y"]]}}], lambda: read("nulls.csv").assign(z=lambda df: df.x * df.y).compute())
    predicates = {"x > 3": "x > 3", "x > 3 and name = 'Ada'": "x > 3 and name == 'Ada'", "name in ('Ada', 'Grace')": "name in ('Ada', 'Grace')", "y < 0 or x = 5": "y < 0 or x == 5",
                  "not (name = 'Ada')": "not (name == 'Ada')", "x > 100": "x > 100", "x between 2 and 4": "2 <= x <= 4"}
    for sql, python in predicates.items():
        yield Case(f"query {sql}", plain({"query": {"predicate": sql}}), lambda python=python: read("plain.csv").query(python).compute(), has_python="<= x <=" in python)
    yield Case("query on nulls", [source("nulls.csv"), {"query": {"predicate": "x > 1"}}], lambda: read("nulls.csv").query("x > 1").compute())
    yield Case("query for nulls", [source("nulls.csv"), {"query": {"predicate": "x is null"}}], lambda: (lambda df: df[df.x.isna()])(read("nulls.csv")).compute())
    yield Case("query over many files", [source("many/*.csv"), {"query": {"predicate": "x >= 40"}}], lambda: read("many/*.csv").query("x >= 40").compute())
    yield Case("sql", plain({"sql": {"query": "select name, sum(x) as total from df where y > 0 group by name order by total desc, name"}}),
               lambda: read("plain.csv").query("y > 0").groupby("name").x.sum().rename("total").compute().reset_index().sort_values(["total", "name"], ascending=[False, True]))
    yield Case("sql on what comes before", plain({"query": {"predicate": "x > 2"}}, {"sql": {"query": "select max(y) as top from df"}}),
               lambda: tell("top", read("plain.csv").query("x > 2").y.max().compute()))


def merge_cases():
    """Joins of all kinds, with null keys, several matches and columns of the same name."""
    for how in ("inner", "left", "right", "outer"):
        yield Case(f"merge {how}", [source("left.csv"), {"merge": {"right": [source("right.csv")], "how": how, "left_on": ["id"], "right_on": ["key"]}}],
                   lambda how=how: read("left.csv").merge(read("right.csv"), how=how, left_on="id", right_on="key").compute(), ordered=False)
        yield Case(f"merge {how} on one name", [source("left.csv"), {"dropna": {}}, {"merge": {"right": [source("keys.csv")], "how": how, "left_on": ["id"], "right_on": ["id"]}}],
                   lambda how=how: read("left.csv").dropna().merge(read("keys.csv"), how=how, on="id").compute(), ordered=False)
        yield Case(f"merge {how} on two keys", plain({"merge": {"right": [source("other-columns.csv")], "how": how, "left_on": ["name", "city"], "right_on": ["name", "city"]}}),
                   lambda how=how: read("plain.csv").merge(read("other-columns.csv"), how=how, on=["name", "city"]).compute(), ordered=False)
    yield Case("merge with a groupby", plain({"merge": {"right": plain({"groupby": {"by": ["name"], "agg": ["mean(x) as m"]}}), "how": "inner", "left_on": ["name"], "right_on": ["name"]}}),
               lambda: read("plain.csv").merge(read("plain.csv").groupby("name").x.mean().rename("m").reset_index(), on="name").compute(), ordered=False)


def order_cases():
    """head, tail, sorting and several files: where the order of rows matters."""
    many = source("many/*.csv")
    yield Case("several paths, in their order", [{"read_csv": {"paths": ["one-row.csv", "crlf.csv", "no-final-newline.csv"]}}],
               lambda: read(["one-row.csv", "crlf.csv", "no-final-newline.csv"]).compute())
    yield Case("a folder", [{"read_csv": {"paths": ["many"]}}, {"len": {}}], lambda: tell("len", len(read("many/*.csv"))))
    yield Case("head of the first file only", [many, {"head": {"n": 50}}], lambda: read("many/*.csv").head(50))
    yield Case("head of two partitions", [many, {"head": {"n": 50, "partitions": 2}}], lambda: read("many/*.csv").head(50, npartitions=2))
    yield Case("head of all partitions", [many, {"head": {"n": 50, "partitions": -1}}], lambda: read("many/*.csv").head(50, npartitions=-1))
    yield Case("tail of the last file only", [many, {"tail": {"n": 50}}], lambda: read("many/*.csv").tail(50))
    yield Case("head of nothing", [many, {"head": {"n": 0}}], lambda: read("many/*.csv").head(0))
    yield Case("head of more than there is", plain({"head": {"n": 100}}), lambda: read("plain.csv").head(100))
    yield Case("small blocks keep the order", [source("blocks.csv", blocksize=4096)], lambda: read("blocks.csv", blocksize=4096).compute())
    yield Case("small blocks, groupby", [source("blocks.csv", blocksize=4096), {"groupby": {"by": ["name"], "agg": ["sum(x)", "mean(y)", "std(y)", "nunique(x)"]}}],
               lambda: grouped(["name"], "sum(x)", "mean(y)", "std(y)", "nunique(x)")(read("blocks.csv", blocksize=4096)))
    yield Case("sort by two keys, up and down", plain({"sort_values": {"by": ["name", "x"], "ascending": [True, False]}}),
               lambda: read("plain.csv").compute().sort_values(["name", "x"], ascending=[True, False]))
    yield Case("sort text", plain({"sort_values": {"by": ["city", "x"]}}), lambda: read("plain.csv").sort_values(["city", "x"]).compute())
    yield Case("sort many files", [many, {"sort_values": {"by": ["x"], "ascending": [False]}}, {"head": {"n": 7, "partitions": -1}}],
               lambda: read("many/*.csv").sort_values("x", ascending=False).compute().head(7))
    yield Case("fillna and then mean", [source("nulls.csv"), {"fillna": {"value": 1, "columns": ["x"]}}, {"mean": {"columns": ["x"]}}],
               lambda: tell("x", read("nulls.csv").x.fillna(1).mean().compute()))
    yield Case("fillna of numbers with text", [source("nulls.csv"), {"fillna": {"value": "none", "columns": ["x"]}}],
               lambda: (lambda df: df.assign(x=df.x.fillna("none")))(read("nulls.csv")).compute(), differs="fillna-type", instead=FAILS)
    yield Case("sum of text", plain({"sum": {"columns": ["city"]}}), lambda: tell("city", read("plain.csv").city.sum().compute()), differs="text-sum", instead=FAILS)
    yield Case("dropna any of a subset", [source("nulls.csv"), {"dropna": {"subset": ["x", "y"]}}], lambda: read("nulls.csv").dropna(subset=["x", "y"]).compute())
    yield Case("drop two", plain({"drop": {"columns": ["x", "city"]}}), lambda: read("plain.csv").drop(columns=["x", "city"]).compute())
    yield Case("select in another order", plain({"select": {"columns": ["y", "name"]}}), lambda: read("plain.csv")[["y", "name"]].compute())
    yield Case("rename two", plain({"rename": {"columns": {"x": "y", "y": "x"}}}), lambda: read("plain.csv").rename(columns={"x": "y", "y": "x"}).compute())
    yield Case("isin with a null", [source("nulls.csv"), {"isin": {"values": [None, 2], "column": "x"}}], lambda: read("nulls.csv").x.isin([None, 2]).compute(),
               differs="isin-null", instead=lambda: (lambda x: x.isin([2]) | x.isna())(read("nulls.csv").x).compute())
    yield Case("isin with a null on text", [source("nulls.csv"), {"isin": {"values": [None, "Ada"], "column": "name"}}], lambda: read("nulls.csv").name.isin([None, "Ada"]).compute())
    yield Case("isin of nothing", plain({"isin": {"values": [], "column": "x"}}), lambda: read("plain.csv").x.isin([]).compute())
    yield Case("isin text on numbers", plain({"isin": {"values": ["1"], "column": "x"}}), lambda: read("plain.csv").x.isin(["1"]).compute())
    yield Case("isin many values", [many, {"isin": {"values": list(range(0, 2000, 3)), "column": "x"}}], lambda: read("many/*.csv").x.isin(list(range(0, 2000, 3))).compute())
    yield Case("value_counts of numbers", [many, {"value_counts": {"column": "x"}}, {"len": {}}], lambda: tell("len", len(counts(read("many/*.csv"), "x"))))
    yield Case("unique keeps the order", plain({"unique": {"column": "city"}}), lambda: read("plain.csv").city.unique().compute())


def reading_cases():
    """Types and words that the user fixes, and types that change further down."""
    yield Case("dtype text keeps zeros", [source("leading-zeros.csv", dtypes={"code": "string"})], lambda: read("leading-zeros.csv", dtype={"code": str}).compute())
    yield Case("dtype float", [source("plain.csv", dtypes={"x": "float64"}), {"dtypes": {}}], lambda: dtypes(read("plain.csv", dtype={"x": "float64"})))
    yield Case("dtype of dates", [source("dates.csv", dtypes={"day": "date"}), {"max": {}}], lambda: each_column("max")(read("dates.csv", parse_dates=["day"])))
    yield Case("dtype of times", [source("datetimes-space.csv", dtypes={"time": "datetime"})], lambda: read("datetimes-space.csv", parse_dates=["time"]).compute())
    yield Case("a null word of one's own", [source("plain.csv", null_words=["Ada"]), {"count": {}}], lambda: each_column("count")(read("plain.csv", na_values=["Ada"])))
    yield Case("no null words", [source("null-words.csv", null_words=[])], lambda: read("null-words.csv", keep_default_na=False, na_values=[""]).compute())
    yield Case("a float far down", [source("late-float.csv"), {"sum": {}}], lambda: one_row(read("late-float.csv").sum(numeric_only=True)),
               differs="late-types", instead=lambda: one_row(read("late-float.csv", dtype={"x": float}).sum(numeric_only=True)))
    yield Case("text far down", [source("late-text.csv"), {"tail": {"n": 3}}], lambda: read("late-text.csv").tail(3),
               differs="late-types", instead=lambda: read("late-text.csv", dtype={"x": str}).tail(3))
    yield Case("text far down, counted", [source("late-text.csv"), {"count": {}}], lambda: each_column("count")(read("late-text.csv")),
               differs="late-types", instead=lambda: each_column("count")(read("late-text.csv", dtype={"x": str})))
    yield Case("one file has other types", [{"read_csv": {"paths": ["one-row.csv", "types-float.csv"]}}], lambda: read(["one-row.csv", "types-float.csv"]).compute(),
               differs="late-types", instead=lambda: read(["one-row.csv", "types-float.csv"], dtype={"x": float}).compute())
    yield Case("one file has other columns", [{"read_csv": {"paths": ["plain.csv", "other-columns.csv"]}}], lambda: read(["plain.csv", "other-columns.csv"]).compute(),
               differs="other-columns", instead=FAILS)
    yield Case("one of the files is empty", [{"read_csv": {"paths": ["one-row.csv", "empty.csv"]}}], lambda: read(["one-row.csv", "empty.csv"]).compute())
    yield Case("one of the files has a header only", [{"read_csv": {"paths": ["plain.csv", "plain-header.csv"]}}], lambda: read(["plain.csv", "plain-header.csv"]).compute())


def failing_cases():
    """What has to fail on both sides."""
    yield Case("no such file", [source("absent.csv")], lambda: read("absent.csv").compute())
    yield Case("no file fits", [source("absent/*.csv")], lambda: read("absent/*.csv").compute())
    yield Case("no such column to select", plain({"select": {"columns": ["absent"]}}), lambda: read("plain.csv")[["absent"]].compute())
    yield Case("no such column to drop", plain({"drop": {"columns": ["absent"]}}), lambda: read("plain.csv").drop(columns=["absent"]).compute())
    yield Case("no such key", plain({"groupby": {"by": ["absent"], "agg": ["sum(x)"]}}), lambda: grouped(["absent"], "sum(x)")(read("plain.csv")))
    yield Case("no such column to aggregate", plain({"groupby": {"by": ["name"], "agg": ["sum(absent)"]}}), lambda: grouped(["name"], "sum(absent)")(read("plain.csv")))
    yield Case("no such column to sort by", plain({"sort_values": {"by": ["absent"]}}), lambda: read("plain.csv").sort_values("absent").compute())
    yield Case("no such column in a query", plain({"query": {"predicate": "absent > 1"}}), lambda: read("plain.csv").query("absent > 1").compute())
    yield Case("no such key of a merge", plain({"merge": {"right": [source("keys.csv")], "left_on": ["absent"], "right_on": ["id"]}}),
               lambda: read("plain.csv").merge(read("keys.csv"), left_on="absent", right_on="id").compute())
    yield Case("a predicate that is none", plain({"query": {"predicate": "x >"}}), lambda: read("plain.csv").query("x >").compute())
    yield Case("mean of text", plain({"mean": {"columns": ["name"]}}), lambda: read("plain.csv").name.mean().compute())
    yield Case("groupby mean of text", plain({"groupby": {"by": ["name"], "agg": ["mean(city)"]}}), lambda: grouped(["name"], "mean(city)")(read("plain.csv")))
    yield Case("a type that does not fit", [source("mixed.csv", dtypes={"a": "int64"})], lambda: read("mixed.csv", dtype={"a": "int64"}).compute())
    yield Case("an unknown aggregate", plain({"groupby": {"by": ["name"], "agg": ["absent(x)"]}}), lambda: grouped(["name"], "absent(x)")(read("plain.csv")))


def client_cases():
    """Code in which columns are computed with, for the client in ../python and for Dask alike. The program has other words for it."""

    def on(name, **options):
        return lambda code, finish=lambda result: result: lambda: finish(code(read(name, **options)).compute())

    def by_key(result):
        # The groups of Dask's `agg` come in any order.
        return result.sort_index()

    plain_file, nulls, times, texts = on("plain.csv"), on("nulls.csv", dtype={"x": "Int64"}), on("datetimes-space.csv", parse_dates=["time"]), on("spaces.csv")
    codes = {
        "arithmetic": plain_file(lambda df: (df.x + 1) * 2 - df.y / 4),
        "arithmetic from the right": plain_file(lambda df: 10 - df.x * (2 - df.y)),
        "division of integers": plain_file(lambda df: df.x / 2),
        "whole division": plain_file(lambda df: (df.y // 2).astype(float)),
        "rest with the sign of the divisor": plain_file(lambda df: -df.x % 3),
        "power": plain_file(lambda df: (df.y ** 2).round(6)),
        "names of results": plain_file(lambda df: df.x + df.y),
        "the name stays": plain_file(lambda df: 1 + df.x),
        "absolute values": plain_file(lambda df: abs(df.y - 3)),
        "texts put together": plain_file(lambda df: df.name + " de " + df.city),
        "missing values in arithmetic": nulls(lambda df: df.x * 2 + 1),
        "a mask": plain_file(lambda df: df[df.x > 3]),
        "a mask of several conditions": plain_file(lambda df: df[(df.x > 1) & (df.x < 5) | (df.name == "Ada")]),
        "a mask turned around": plain_file(lambda df: df[~(df.x > 3)]),
        "a mask with missing values": nulls(lambda df: df[df.y > 1]),
        "a mask turned around, with missing values": nulls(lambda df: df[~(df.y > 1)]),
        "unequal, with missing values": nulls(lambda df: df[df.y != 0.5]),
        "between": plain_file(lambda df: df[df.x.between(2, 4)]),
        "between, without its ends": plain_file(lambda df: df[df.x.between(2, 4, inclusive="neither")]),
        "isin as a mask": plain_file(lambda df: df[df.x.isin([1, 3])]),
        "isin of texts as a mask": plain_file(lambda df: df[df.name.isin(["Ada", "it's", "x' or 'x' = 'x"])]),
        "not isin": nulls(lambda df: df[~df.name.isin(["Ada"])]),
        "isna as a mask": nulls(lambda df: df[df.y.isna()]),
        "notna as a mask": nulls(lambda df: df[df.y.notnull()]),
        "a column by a mask": plain_file(lambda df: df.y[df.x > 2]),
        "columns by an earlier mask": plain_file(lambda df: df[["name", "y"]][df.x > 2]),
        "a column put in": plain_file(lambda df: df.assign(z=df.x * 2, w=lambda df: df.z + 1)),
        "a constant put in": plain_file(lambda df: df.assign(z="it's", w=2.5)),
        "missing values replaced": nulls(lambda df: df.y.fillna(0)),
        "missing values replaced in an expression": nulls(lambda df: df.y.fillna(0) + 1),
        "missing values replaced in a frame": nulls(lambda df: df.fillna({"y": 0, "name": "none"})),
        "where": plain_file(lambda df: df.x.where(df.x > 2, 0)),
        "where, else missing": plain_file(lambda df: df.y.where(df.x > 2)),
        "mask": plain_file(lambda df: df.x.mask(df.x > 2, -1)),
        "another type": plain_file(lambda df: df.x.astype(float)),
        "lengths of texts": plain_file(lambda df: df.city.str.len()),
        "capital letters": plain_file(lambda df: df.city.str.upper()),
        "the beginning of texts": plain_file(lambda df: df[df.name.str.startswith("A")]),
        "the end of texts": plain_file(lambda df: df[df.name.str.endswith("a")]),
        "a regular expression": plain_file(lambda df: df[df.name.str.contains("^A.*n$")]),
        "a text in texts": plain_file(lambda df: df[df.name.str.contains(".", regex=False)]),
        "texts in place of others": plain_file(lambda df: df.city.str.replace("o", "''")),
        "texts without spaces": texts(lambda df: df.name.str.strip()),
        "days of the week": times(lambda df: df.time.dt.dayofweek),
        "days of the year": times(lambda df: df.time.dt.dayofyear),
        "quarters": times(lambda df: df.time.dt.quarter),
        "later than": times(lambda df: df[df.time > pandas.Timestamp("2024-02-29 12:00:00")]),
        "groups of one column": plain_file(lambda df: df.groupby("name").x.sum()),
        "groups of several columns": plain_file(lambda df: df.groupby("name")[["x", "y"]].max()),
        "groups by several columns": plain_file(lambda df: df.groupby(["name", "city"]).y.count()),
        "groups of all columns": plain_file(lambda df: df[["name", "x", "y"]].groupby("name").mean()),
        "sizes of groups": plain_file(lambda df: df.groupby("name").size()),
        "an aggregate for each column": plain_file(lambda df: df.groupby("name").agg({"x": "sum", "y": "mean"}), by_key),
        "several aggregates": plain_file(lambda df: df.groupby("name").agg({"x": ["min", "max"], "y": ["count"]}), by_key),
        "several aggregates of one column": plain_file(lambda df: df.groupby("name").x.agg(["min", "max"]), by_key),
        "groups of a new column": plain_file(lambda df: df.assign(z=df.x % 2).groupby("z").y.sum()),
        "groups as columns": plain_file(lambda df: df.groupby("name").x.sum().reset_index()),
        "the largest group": plain_file(lambda df: df.groupby("name").x.sum().max()),
        "aggregates of numbers": plain_file(lambda df: df[["x", "y"]].sum()),
        "aggregates of all columns": plain_file(lambda df: df.count()),
        "one aggregate": plain_file(lambda df: df.y.std()),
        "one aggregate of an expression": plain_file(lambda df: (df.x * df.y).mean()),
        "the difference from the mean": plain_file(lambda df: df.x - df.x.mean()),
        "the difference of two aggregates": plain_file(lambda df: df.y.max() - df.y.min()),
        "distinct values": nulls(lambda df: df.name.nunique()),
        "statistics of one column": plain_file(lambda df: df.y.describe()),
        "statistics": plain_file(lambda df: df[["x", "y"]].describe()),
        "a column without missing values": nulls(lambda df: df.y.dropna()),
        "a column as a frame": plain_file(lambda df: df.x.to_frame()),
        "another name": plain_file(lambda df: (df.x * 2).rename("double")),
        "another name, as a frame": plain_file(lambda df: (df.x * 2).rename("double").to_frame()),
        "names from a function": plain_file(lambda df: df.rename(columns=str.upper)),
        "integers of 63 bits": on("big-integers.csv")(lambda df: df[df.a == df.a.max()]),
        "more than 64 bits": plain_file(lambda df: df[df.x < 2**70]),
        "no such column": plain_file(lambda df: df.absent + 1),
        "text and number": plain_file(lambda df: df.name * 1.5),
    }
    for name, code in codes.items():
        yield Case(name, [], code)
    for how in ("inner", "left", "outer"):
        yield Case(f"merge {how} of groups", [], lambda how=how: read("plain.csv").merge(read("plain.csv").groupby("name").y.mean().reset_index(), on="name", how=how).compute(), ordered=False)
    for name in ("año", "nombre completo", "UPPER", "東京"):
        yield Case(f"an expression of {name}", [], lambda name=name: read("utf8-names.csv")[read("utf8-names.csv")[name] == read("utf8-names.csv")[name]].compute())


# Operations on one file that differ on purpose: the difference, and what is given instead of Dask's answer, from the file's frame.
DIFFERENT = {
    **{("infinity.csv", function): ("infinity", lambda df, function=function: one_row(getattr(df.compute(), function)(numeric_only=True)))
       for function in ("sum", "mean", "std", "var")},
    ("infinity.csv", "describe"): ("infinity", described_exactly),
    ("infinity.csv", "groupby max, min"): ("smallest-infinity", lambda df: grouped(["name"], "max(x)", "min(x)")(df).replace({"min(x)": {numpy.inf: LARGEST}})),
    ("many/*.csv", "describe"): ("quartiles", described_exactly),
    ("booleans.csv", "describe"): ("describe-booleans", described_exactly),
    ("booleans-null.csv", "describe"): ("describe-booleans", described_exactly),
    **{("booleans-null.csv", function): ("booleans-with-nulls", lambda df, function=function: one_row(getattr(df.compute()[["flag"]].astype("Float64"), function)()))
       for function in ("std", "var")},
    ("big-integers.csv", "mean"): ("mean-of-integers", lambda df: one_row(df.compute().mean(numeric_only=True))),
    ("big-integers.csv", "describe"): ("mean-of-integers", described_exactly),
    **{("unsigned-integers.csv", function): ("big-integers", FAILS) for function in ("sum", "mean", "std", "var", "describe")},
    **{(name, "fillna text"): ("fillna-type", FAILS) for name in ("one-column.csv", "numbers.csv", "leading-zeros.csv", "booleans.csv", "spaces.csv")},
    **{(name, "fillna"): ("fillna-type", FAILS) for name in ("header-only.csv", "one-column-nulls.csv", "unsigned-integers.csv", "booleans-null.csv")},
    **{(name, function): ("no-numbers", FAILS) for name in ("header-only.csv", "one-column-nulls.csv") for function in ("sum", "mean", "std", "var")},
    **{(name, "describe"): ("describe-text", FAILS) for name in ("header-only.csv", "one-column-nulls.csv")},
}


def of_every_file():
    """Every operation on every file."""
    for file in FILES:
        for name, operations, compute, ordered in every_operation(file):
            case = Case(f"{name} of {file.name}", [source(file.name, **file.options), *operations],
                        lambda file=file, compute=compute: compute(read(file.name, **file.dask)), ordered, file.differs, perhaps=True)
            if file.instead == FAILS:
                case.instead = FAILS
            elif file.instead:
                case.instead = lambda file=file, compute=compute: compute(read(file.name, **file.dask, **file.instead))
            if (file.name, name) in DIFFERENT:
                case.differs, instead = DIFFERENT[file.name, name]
                case.instead = instead if instead == FAILS else lambda file=file, instead=instead: instead(read(file.name, **file.dask, **(file.instead or {})))
                case.perhaps = False
            yield case


def cases():
    """All cases."""
    for group in (of_every_file, groupby_cases, expression_cases, merge_cases, order_cases, reading_cases, failing_cases):
        yield from group()
