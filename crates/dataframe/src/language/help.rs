//! What can be written at the prompt.

/// One operation, function or command.
#[derive(Debug, Clone, Copy)]
pub struct HelpTopic {
    /// Its name.
    pub name: &'static str,
    /// How it is written.
    pub usage: &'static str,
    /// What it does.
    pub text: &'static str,
}

macro_rules! topics {
    ($($name:literal, $usage:literal, $text:literal;)*) => {
        /// All topics, in alphabetical order.
        pub const TOPICS: &[HelpTopic] = &[$(HelpTopic { name: $name, usage: $usage, text: $text }),*];
    };
}

topics! {
    "agg", "df.groupby(\"name\").agg(\"mean(x)\", \"max(y) as top\")", "Aggregates each group. Functions: count first last max mean min nunique size std sum var. Also written as {\"x\": [\"min\", \"max\"]} or total=\"sum(x)\".";
    "apply", "df.apply(\"x * 2 + length(name)\"), df.x.apply(\"NAME\")", "Computes a column from each row, by an expression in SQL or by the name of a function that the workers have.";
    "apply_wasm", "df.apply_wasm(\"names.wasm\", \"celsius\", [\"x\"], \"float64\")", "Computes a column from each row by a function of a WebAssembly module: file of --wasm, function, columns, type of the result. Start the prompt with --wasm FILE.";
    "assign", "df.assign(y=df.x * 2, z=\"length(name)\")", "Adds columns or replaces them. A text is an expression in SQL. Also written as df[\"y\"] = df.x * 2.";
    "columns", "df.columns", "Shows the names of the columns.";
    "count", "df.count(), df.x.count()", "Counts the values that are not null.";
    "describe", "df.describe()", "Shows count, mean, std, min, quartiles and max of each column of numbers.";
    "drop", "df.drop(columns=[\"x\", \"y\"])", "Removes columns.";
    "dropna", "df.dropna(subset=[\"x\"], how=\"any\")", "Removes rows with nulls.";
    "dtypes", "df.dtypes", "Shows the names and types of the columns.";
    "exit", "exit", "Ends. Ctrl-D does so too.";
    "explain", "explain df.groupby(\"name\").x.mean()", "Shows how a frame would be computed: plan, tasks, places.";
    "fillna", "df.fillna(0), df.fillna({\"x\": 0, \"name\": \"?\"})", "Replaces nulls.";
    "frames", "frames", "Shows the names that have been assigned.";
    "groupby", "df.groupby(\"name\").agg(\"mean(x)\"), df.groupby([\"name\", \"day\"])[\"x\"].sum()", "Groups rows by keys. Rows with a null key are dropped. `help agg` tells about the aggregates.";
    "head", "df.head(3), df.head(3, npartitions=-1)", "Shows the first rows. Only the first partition is read unless told otherwise.";
    "help", "help, help groupby", "Shows what can be written.";
    "isin", "df.x.isin([1, \"a\"]), df.isin([1, 2])", "Tells whether each value is in a list.";
    "items", "df.items()", "Shows one column after the other, each with its name.";
    "len", "len(df)", "Counts the rows.";
    "max", "df.max(), df.x.max()", "Shows the largest value of each column.";
    "mean", "df.mean(), df.x.mean()", "Shows the mean of each column of numbers.";
    "merge", "df.merge(other, on=\"id\", how=\"left\")", "Joins with another frame. how: inner left right outer; left_on and right_on name keys that differ.";
    "min", "df.min(), df.x.min()", "Shows the smallest value of each column.";
    "nodes", "nodes, nodes add HOST:PORT, nodes remove NAME, nodes drain NAME", "Shows the workers of the cluster, or changes them.";
    "nunique", "df.nunique(), df.x.nunique()", "Counts the distinct values.";
    "persist", "df = df.persist()", "Computes a frame once and keeps it.";
    "query", "df.query(\"x > 3 and name = 'Ada'\")", "Keeps the rows for which a predicate in SQL is true. Also written as df[df.x > 3].";
    "read_csv", "df = read_csv(\"data/*.csv\", sep=\";\", dtype={\"x\": \"int64\"})", "Names the rows of CSV files. Further arguments: quotechar header na_values compression blocksize.";
    "rename", "df.rename(columns={\"old\": \"new\"})", "Renames columns.";
    "sort_values", "df.sort_values([\"name\", \"x\"], ascending=[True, False])", "Orders rows. Null comes last.";
    "sql", "sql select name, avg(x) from df group by name", "Runs a query in SQL on a frame. Also written as df.sql(\"select …\").";
    "std", "df.std(), df.x.std()", "Shows the standard deviation of each column of numbers, with n - 1.";
    "str", "df.name.str.lower(), df.name.str.contains(\"^A\")", "Functions of texts: contains endswith len lower lstrip replace rstrip startswith strip upper. Times have parts: df.day.dt.year.";
    "sum", "df.sum(), df.x.sum()", "Shows the sum of each column of numbers.";
    "tail", "df.tail(3)", "Shows the last rows.";
    "to_csv", "df.to_csv(\"result.csv\")", "Writes a frame into a CSV file.";
    "to_parquet", "df.to_parquet(\"result.parquet\")", "Writes a frame into a Parquet file.";
    "unique", "df.x.unique()", "Shows the distinct values of a column.";
    "value_counts", "df.x.value_counts()", "Counts how often each value occurs.";
    "var", "df.var(), df.x.var()", "Shows the variance of each column of numbers, with n - 1.";
}

const OVERVIEW: &str = "\
A line is a computation, whose result is shown, or gives a name to one:
  df = read_csv(\"tasca1/data/*.csv\")
  df[df.x > 3].groupby(\"name\").agg(\"mean(x)\")
  df[\"y\"] = df.x * 2
  sql select name, avg(x) from df group by name

Conditions: df[(df.x > 3) & ~df.name.isin([\"Ada\"])]. Nothing is computed before a result is shown.

`help NAME` tells more about one of these:";

/// The width of the list of names.
const LIST_WIDTH: usize = 78;

/// Returns the help, or one topic of it; `None` if there is no such topic.
#[must_use]
pub fn help(topic: Option<&str>) -> Option<String> {
    let Some(topic) = topic else {
        let mut text = OVERVIEW.to_owned();
        let mut width = LIST_WIDTH;
        for topic in TOPICS {
            if width + topic.name.len() + 1 > LIST_WIDTH {
                text.push_str("\n ");
                width = 1;
            }
            text.push(' ');
            text.push_str(topic.name);
            width += topic.name.len() + 1;
        }
        return Some(text);
    };
    let name = topic.rsplit('.').next().unwrap_or(topic).trim_end_matches("()");
    let found = find(name)?;
    let usages: Vec<_> = found.usage.split("), ").collect();
    let last = usages.len() - 1;
    let usages: Vec<_> = usages
        .iter()
        .enumerate()
        .map(|(place, usage)| format!("  {usage}{}", if place < last { ")" } else { "" }))
        .collect();
    Some(format!("{}\n\n{}", found.text, usages.join("\n")))
}

/// Returns a topic.
#[must_use]
pub fn find(name: &str) -> Option<&'static HelpTopic> {
    TOPICS.iter().find(|topic| topic.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::language::frames::{FRAME_ATTRIBUTES, FRAME_METHODS};
    use crate::language::statement::COMMANDS;

    #[test]
    fn every_operation_and_command_has_a_topic() {
        assert!(TOPICS.is_sorted_by_key(|topic| topic.name));
        let own = ["compute", "quit"];
        for name in FRAME_METHODS.iter().chain(&FRAME_ATTRIBUTES).chain(&COMMANDS) {
            assert!(own.contains(name) || find(name).is_some(), "{name}");
        }
        assert!(help(None).unwrap().contains("value_counts"));
        assert!(help(Some("df.groupby")).unwrap().contains("dropped"));
        assert_eq!(help(Some("nothing")), None);
    }
}
