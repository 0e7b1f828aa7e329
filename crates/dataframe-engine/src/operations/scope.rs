//! Which files a list of operations reads, and how much of them.

use dataframe_jobs::operation::{Operation, ReadCsv};

use crate::error::FrameError;

/// How much of the files of a `read_csv` is read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Scope {
    /// All of them, by all threads or workers.
    All,
    /// All of them, one after the other: `head` stops when it has enough.
    FromStart,
    /// The first blocks.
    First(u64),
    /// The last block.
    Last,
}

/// One `read_csv` of a job.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Read<'a> {
    pub(crate) csv: &'a ReadCsv,
    pub(crate) scope: Scope,
}

/// A longer list of operations is refused: DataFusion goes down a plan step by step, and a stack has an end.
const MAX_OPERATIONS: usize = 100;

/// All `read_csv` of a list, those of `merge` and of tables among them, in the order in which they are written.
///
/// # Errors
/// Fails if a list does not begin with `read_csv`, or if there are too many operations.
pub(crate) fn reads(operations: &[Operation]) -> Result<Vec<Read<'_>>, FrameError> {
    let Some(Operation::ReadCsv(csv)) = operations.first() else {
        return Err(FrameError::BadJob(
            "a list of operations begins with read_csv, such as {\"read_csv\": {\"paths\": [\"data/*.csv\"]}}".into(),
        ));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(FrameError::BadJob(format!(
            "a list has at most {MAX_OPERATIONS} operations, and this one has {}; write a result to a file, and read it again",
            operations.len()
        )));
    }
    let mut all = vec![Read { csv, scope: scope(&operations[1..]) }];
    for operation in operations {
        match operation {
            Operation::Merge { right, .. } => all.extend(reads(right)?),
            Operation::Sql { tables, .. } => {
                for list in tables.values() {
                    all.extend(reads(list)?);
                }
            }
            _ => {}
        }
    }
    Ok(all)
}

/// `head` and `tail` look at the first or the last partition of what stands before them, if that is one row after another.
fn scope(operations: &[Operation]) -> Scope {
    let mut filtered = false;
    for operation in operations {
        match operation {
            Operation::Head { partitions, .. } => {
                return match u64::try_from(*partitions) {
                    Ok(blocks) => Scope::First(blocks.max(1)),
                    Err(_) if filtered => Scope::All,
                    Err(_) => Scope::FromStart,
                };
            }
            Operation::Tail { .. } => return Scope::Last,
            Operation::Query { .. } | Operation::Dropna { .. } => filtered = true,
            Operation::Apply(_)
            | Operation::Assign { .. }
            | Operation::Isin { .. }
            | Operation::Fillna { .. }
            | Operation::Select { .. }
            | Operation::Drop { .. }
            | Operation::Rename { .. }
            | Operation::Items {}
            | Operation::Persist {} => {}
            _ => return Scope::All,
        }
    }
    Scope::All
}

#[cfg(test)]
mod tests {
    use super::*;

    fn scope_of(json: &str) -> Scope {
        let operations: Vec<Operation> = serde_json::from_str(json).unwrap();
        reads(&operations).unwrap()[0].scope
    }

    #[test]
    fn head_reads_the_first_partitions_alone() {
        let read = r#"{"read_csv": {"paths": ["a.csv"]}}"#;
        let after = |rest: &str| scope_of(&format!("[{read}, {rest}]"));
        assert_eq!(after(r#"{"head": {}}"#), Scope::First(1));
        assert_eq!(
            after(r#"{"query": {"predicate": "x > 1"}}, {"head": {"n": 3, "partitions": 2}}"#),
            Scope::First(2)
        );
        assert_eq!(after(r#"{"head": {"partitions": -1}}"#), Scope::FromStart);
        assert_eq!(after(r#"{"query": {"predicate": "x > 1"}}, {"head": {"partitions": -1}}"#), Scope::All);
        assert_eq!(after(r#"{"select": {"columns": ["x"]}}, {"tail": {}}"#), Scope::Last);
        assert_eq!(after(r#"{"sort_values": {"by": ["x"]}}, {"head": {}}"#), Scope::All);
    }

    #[test]
    fn a_list_begins_with_a_source() {
        assert!(reads(&[]).is_err());
        assert!(reads(&[Operation::Len {}]).is_err());
        let endless = vec![Operation::Len {}; MAX_OPERATIONS + 1];
        assert!(reads(&endless).is_err());
    }
}
