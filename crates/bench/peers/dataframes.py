#!/usr/bin/env python3
"""Answers the queries of `bench dataframe` with another DataFrame: dask, polars or duckdb.

Usage: dataframes.py dask|polars|duckdb H2O.csv STATIONS.csv

Reads the name of a query from each line of standard input, and answers it with one line of JSON: how many seconds it took until all
rows were there, their number, and the sum of each column of numbers. Files are read anew each time.
"""

import json
import sys
import time


def dask_queries(h2o, stations):
    import dask
    import dask.dataframe as dd
    from dask.distributed import Client, LocalCluster

    dask.config.set({"distributed.worker.memory.terminate": False})
    client = Client(LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None))

    def read(path):
        return dd.read_csv(path)

    def h2o_frame():
        return read(h2o)

    def isin():
        frame = h2o_frame()
        return [len(frame[frame.id1.isin(["id001", "id050"])])]

    def probe(count):
        begin = time.perf_counter()
        client.gather(client.map(lambda number: number, range(count), pure=False))
        return time.perf_counter() - begin

    queries = {
        "groupby-few": lambda: h2o_frame().groupby("id1").agg({"v1": "sum"}).compute(),
        "groupby-many": lambda: h2o_frame().groupby("id3").agg({"v1": "sum", "v3": "mean"}).compute(),
        "max": lambda: [h2o_frame().v3.max().compute()],
        "isin": isin,
        "stations": lambda: read(stations).groupby("station").agg({"temperature": ["min", "mean", "max"]}).compute(),
    }
    return queries, probe


def polars_queries(h2o, stations):
    import polars as pl

    def h2o_frame():
        return pl.scan_csv(h2o)

    degrees = pl.col("temperature")
    return {
        "groupby-few": lambda: h2o_frame().group_by("id1").agg(pl.sum("v1")).collect(),
        "groupby-many": lambda: h2o_frame().group_by("id3").agg(pl.sum("v1"), pl.mean("v3")).collect(),
        "max": lambda: h2o_frame().select(pl.max("v3")).collect(),
        "isin": lambda: h2o_frame().filter(pl.col("id1").is_in(["id001", "id050"])).select(pl.len()).collect(),
        "stations": lambda: pl.scan_csv(stations)
        .group_by("station")
        .agg(degrees.min().alias("min"), degrees.mean().alias("mean"), degrees.max().alias("max"))
        .collect(),
    }, None


def duckdb_queries(h2o, stations):
    import duckdb

    connection = duckdb.connect()
    # It would stand between the answers.
    connection.sql("set enable_progress_bar = false")

    def run(sql):
        return lambda: connection.sql(sql).to_arrow_table()

    return {
        "groupby-few": run(f"select id1, sum(v1)::bigint from '{h2o}' group by id1"),
        "groupby-many": run(f"select id3, sum(v1)::bigint, avg(v3) from '{h2o}' group by id3"),
        "max": run(f"select max(v3) from '{h2o}'"),
        "isin": run(f"select count(*) from '{h2o}' where id1 in ('id001', 'id050')"),
        "stations": run(
            f"select station, min(temperature), avg(temperature), max(temperature) from '{stations}' group by station"
        ),
    }, None


def summary(result):
    """Returns the number of rows and the sums of the columns of numbers, whatever the result is made of."""
    if isinstance(result, list):
        return 1, [float(result[0])]
    if hasattr(result, "to_pandas"):
        result = result.to_pandas()
    return len(result), [float(total) for total in result.select_dtypes("number").sum()]


def main():
    engine, h2o, stations = sys.argv[1:]
    make = {"dask": dask_queries, "polars": polars_queries, "duckdb": duckdb_queries}[engine]
    queries, probe = make(h2o, stations)
    print(json.dumps({"ready": engine}), flush=True)
    for line in sys.stdin:
        name, *count = line.split()
        if name == "probe":
            print(json.dumps({"seconds": probe(int(count[0]))}), flush=True)
            continue
        begin = time.perf_counter()
        result = queries[name]()
        seconds = time.perf_counter() - begin
        rows, sums = summary(result)
        print(json.dumps({"seconds": seconds, "rows": rows, "sums": sums}), flush=True)


if __name__ == "__main__":
    main()
