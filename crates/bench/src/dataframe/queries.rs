//! What is asked of every side.

use std::path::Path;

use serde_json::{Value, json};

use super::data::DataFiles;

/// A query that every side knows.
#[derive(Debug, Clone, Copy)]
pub struct DataFrameQuery {
    /// Its name on the wire to the peers.
    pub name: &'static str,
    /// What a reader sees.
    pub title: &'static str,
    operations: fn(&DataFiles) -> Value,
}

/// The queries, in the order of the tables.
pub const QUERIES: [DataFrameQuery; 5] = [
    DataFrameQuery {
        name: "groupby-few",
        title: "groupby id1: sum v1 (100 groups)",
        operations: |files| json!([read(&files.h2o), {"groupby": {"by": ["id1"], "agg": ["sum(v1)"]}}]),
    },
    DataFrameQuery {
        name: "groupby-many",
        title: "groupby id3: sum v1, mean v3 (a group for each 100 rows)",
        operations: |files| json!([read(&files.h2o), {"groupby": {"by": ["id3"], "agg": ["sum(v1)", "mean(v3)"]}}]),
    },
    DataFrameQuery {
        name: "max",
        title: "max v3",
        operations: |files| json!([read(&files.h2o), {"max": {"columns": ["v3"]}}]),
    },
    DataFrameQuery {
        name: "isin",
        title: "len of id1 isin two values",
        operations: |files| json!([read(&files.h2o), {"query": {"predicate": "id1 in ('id001', 'id050')"}}, {"len": {}}]),
    },
    DataFrameQuery {
        name: "stations",
        title: "stations: min, mean and max for each",
        operations: |files| {
            let aggregates = ["min(temperature)", "mean(temperature)", "max(temperature)"];
            json!([read(&files.stations), {"groupby": {"by": ["station"], "agg": aggregates}}])
        },
    },
];

impl DataFrameQuery {
    /// Returns the query as a list of operations, the language of Tasca 1.
    pub fn operations(&self, files: &DataFiles) -> String {
        (self.operations)(files).to_string()
    }
}

fn read(path: &Path) -> Value {
    json!({ "read_csv": { "paths": [path] } })
}
