//! `df[df.x > 3]`: the rows for which a condition is true.

use std::ops::Range;

use dataframe_jobs::operation::Operation;

use crate::language::fault::LineFault;
use crate::language::value::Series;

/// Keeps the rows of a frame for which `mask` is true. `None` if the mask is not about rows of this frame.
///
/// The mask may be about an earlier state of the frame, as in `df[["name"]][df.x > 3]`, if each row has come from one row of
/// that state. Then the rows are chosen there.
pub(super) fn where_true(base: &[Operation], mask: Series) -> Option<Vec<Operation>> {
    let since = base.strip_prefix(mask.base.as_slice())?;
    if !since.iter().all(keeps_rows_apart) {
        return None;
    }
    let mut operations = mask.base;
    operations.push(Operation::Query { predicate: mask.sql });
    operations.extend_from_slice(since);
    Some(operations)
}

fn keeps_rows_apart(operation: &Operation) -> bool {
    matches!(
        operation,
        Operation::Select { .. }
            | Operation::Query { .. }
            | Operation::Assign { .. }
            | Operation::Drop { .. }
            | Operation::Rename { .. }
            | Operation::Fillna { .. }
    )
}

pub(super) fn fault(at: Range<usize>) -> LineFault {
    LineFault::new(at, "the condition is about another frame: df[df.x > 3] takes the columns of df itself")
}
