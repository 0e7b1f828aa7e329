//! Errors of DataFusion, grouped by who can do something about them.

use arrow::error::ArrowError;
use dataframe_jobs::operation::Operation;
use datafusion::error::DataFusionError;

use crate::csv::explain_scan_error;
use crate::error::FrameError;

/// What an error of planning or running means for whoever gave the operations.
pub(crate) fn explain_error(error: &DataFusionError, expressions: &[String]) -> FrameError {
    // A scan, or a worker, has explained its own errors where they happened.
    match (explain_scan_error(error), error.find_root()) {
        (FrameError::BadJob(_), DataFusionError::ArrowError(arrow, _)) => match arrow.as_ref() {
            ArrowError::DivideByZero => FrameError::BadJob(in_expressions("division by zero", expressions)),
            ArrowError::ExternalError(_) => explain_scan_error(error),
            other => FrameError::BadJob(in_expressions(&other.to_string(), expressions)),
        },
        (FrameError::BadJob(_), DataFusionError::Execution(message)) => {
            FrameError::BadJob(in_expressions(message, expressions))
        }
        (FrameError::BadJob(_), DataFusionError::NotImplemented(message)) => {
            let message = format!("this is not supported: {message}");
            FrameError::BadJob(in_expressions(&message, expressions))
        }
        (FrameError::BadJob(_), DataFusionError::Plan(message)) => {
            FrameError::BadJob(in_expressions(message, expressions))
        }
        (FrameError::Resources(_), DataFusionError::ResourcesExhausted(message)) => {
            FrameError::Resources(format!(
                "there is not enough memory: {message}. Give the process more (--memory), or group and sort by fewer values"
            ))
        }
        (explained, _) => explained,
    }
}

fn in_expressions(message: &str, expressions: &[String]) -> String {
    match expressions {
        [] => message.to_owned(),
        [only] => format!("{message}, in the expression {only:?}"),
        many => {
            let all = many.iter().map(|text| format!("{text:?}")).collect::<Vec<_>>().join(", ");
            format!("{message}, in one of the expressions {all}")
        }
    }
}

/// The expressions of a list of operations, for errors to name.
pub(crate) fn expressions(operations: &[Operation]) -> Vec<String> {
    let mut all = Vec::new();
    for operation in operations {
        match operation {
            Operation::Apply(apply) => {
                let function = apply
                    .function
                    .as_ref()
                    .map(|function| format!("{function}({})", apply.column.as_deref().unwrap_or_default()));
                let wasm =
                    apply.wasm.as_ref().map(|wasm| format!("{}({})", wasm.function, wasm.columns.join(", ")));
                all.extend(apply.expression.clone().or(function).or(wasm));
            }
            Operation::Assign { columns } => all.extend(columns.iter().map(|(_, text)| text.clone())),
            Operation::Query { predicate } => all.push(predicate.clone()),
            Operation::Sql { query, tables, .. } => {
                all.push(query.clone());
                all.extend(tables.values().flat_map(|list| expressions(list)));
            }
            Operation::Merge { right, .. } => all.extend(expressions(right)),
            _ => {}
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_that_was_explained_stays_as_it_is() {
        let known = FrameError::File("a.csv: the file is gone".into());
        let wrapped = DataFusionError::External(Box::new(known.clone())).context("while reading");
        assert_eq!(explain_error(&wrapped, &[]), known);
        let arrow = ArrowError::ExternalError(Box::new(known.clone()));
        assert_eq!(explain_error(&DataFusionError::ArrowError(Box::new(arrow), None), &[]), known);
    }

    #[test]
    fn a_division_by_zero_names_its_expression() {
        let error = DataFusionError::ArrowError(Box::new(ArrowError::DivideByZero), None);
        let explained = explain_error(&error, &["x / 0".into()]);
        assert_eq!(explained, FrameError::BadJob("division by zero, in the expression \"x / 0\"".into()));
    }
}
