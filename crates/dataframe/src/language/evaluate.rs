//! Syntax and the known names → what is to be done.

use std::ops::Range;

use dataframe_jobs::message::NodesCommand;
use dataframe_jobs::operation::Operation;
use serde_json::{Map, Value};

use crate::language::call::{CallArguments, GivenArgument};
use crate::language::expression::{join, operand, sign};
use crate::language::fault::LineFault;
use crate::language::frames::{
    FRAME_METHODS, GROUP_METHODS, NamedModules, call_frame, call_groups, read_csv,
};
use crate::language::series::{
    SERIES_METHODS, TEXT_METHODS, TIME_PARTS, accessor, call_series, call_text, save, time_part,
};
use crate::language::syntax::{ShellStatement, Syntax, SyntaxArgument, SyntaxKind};
use crate::language::value::{GroupedRows, SaveOrder, Series, SeriesAccessor, ShellNames, ShellValue, with};

mod advice;
mod query;
mod rows;

/// What a line asks for.
#[derive(Debug, Clone, PartialEq)]
pub enum ShellAction {
    /// Nothing.
    Nothing,
    /// To show the help, or one topic of it.
    Help(Option<String>),
    /// To end.
    Leave,
    /// To show the names that are known.
    Frames,
    /// To ask about the workers, or to change them.
    Nodes(NodesCommand),
    /// To compute a frame and show it.
    Show(Vec<Operation>),
    /// To show a value that needs no computing.
    Print(Value),
    /// To let a name stand for a value.
    Keep {
        /// The name.
        name: String,
        /// The value.
        value: ShellValue,
    },
    /// To tell how a frame would be computed.
    Explain(Vec<Operation>),
    /// To write a frame into a file.
    Save(SaveOrder),
}

/// Finds out what a line asks for. Nothing is computed.
///
/// # Errors
/// Fails if the line uses what does not exist. The fault names the place and what would be right.
pub fn evaluate(statement: ShellStatement, names: &ShellNames) -> Result<ShellAction, LineFault> {
    Ok(match statement {
        ShellStatement::Empty => ShellAction::Nothing,
        ShellStatement::Help(topic) => ShellAction::Help(topic),
        ShellStatement::Leave => ShellAction::Leave,
        ShellStatement::Frames => ShellAction::Frames,
        ShellStatement::Nodes { command, argument, at } => ShellAction::Nodes(nodes(&command, argument, at)?),
        ShellStatement::Sql { query, at } => ShellAction::Show(query::on_frame(&query, at, names)?),
        ShellStatement::Explain(syntax) => {
            ShellAction::Explain(frame_of(value_of(&syntax, names)?, &syntax.at)?)
        }
        ShellStatement::Assign { name, value } => {
            let at = value.at.clone();
            let value = value_of(&value, names)?;
            if matches!(
                value,
                ShellValue::Save(_) | ShellValue::Explain(_) | ShellValue::Library | ShellValue::Accessor(..)
            ) {
                return Err(LineFault::new(at, format!("{} cannot have a name", value.kind())));
            }
            ShellAction::Keep { name, value }
        }
        ShellStatement::AssignColumn { frame, frame_at, column, value } => {
            assign_column(frame, frame_at, &column, &value, names)?
        }
        ShellStatement::Show(syntax) => match value_of(&syntax, names)? {
            ShellValue::Literal(value) => ShellAction::Print(value),
            ShellValue::Save(order) => ShellAction::Save(order),
            ShellValue::Explain(operations) => ShellAction::Explain(operations),
            other => ShellAction::Show(frame_of(other, &syntax.at)?),
        },
    })
}

fn nodes(command: &str, argument: Option<String>, at: Range<usize>) -> Result<NodesCommand, LineFault> {
    match (command, argument) {
        ("list", None) => Ok(NodesCommand::List),
        ("add", Some(address)) => Ok(NodesCommand::Add { address }),
        ("remove", Some(worker)) => Ok(NodesCommand::Remove { worker }),
        ("drain", Some(worker)) => Ok(NodesCommand::Drain { worker }),
        _ => Err(LineFault::new(
            at,
            "write one of: nodes list, nodes add HOST:PORT, nodes remove NAME, nodes drain NAME",
        )),
    }
}

fn frame_of(value: ShellValue, at: &Range<usize>) -> Result<Vec<Operation>, LineFault> {
    match value {
        ShellValue::Frame(operations) | ShellValue::Explain(operations) => Ok(operations),
        ShellValue::Series(series) => Ok(series.into_frame()),
        ShellValue::Groups(_) => {
            Err(LineFault::new(at.clone(), "an aggregate is missing: df.groupby(\"name\").agg(\"mean(x)\")"))
        }
        other => {
            Err(LineFault::new(at.clone(), format!("a frame is expected here and not {}", other.kind())))
        }
    }
}

fn assign_column(
    name: String,
    at: Range<usize>,
    column: &Syntax,
    value: &Syntax,
    names: &ShellNames,
) -> Result<ShellAction, LineFault> {
    let Some(ShellValue::Frame(base)) = names.get(&name).map(|known| &known.value) else {
        return Err(LineFault::new(
            at,
            format!("`{name}` is not a frame: {name} = read_csv(\"…\") makes one"),
        ));
    };
    let Some(column) = column.text() else {
        return Err(LineFault::new(
            column.at.clone(),
            format!("one column is assigned at a time: {name}[\"y\"] = …"),
        ));
    };
    let operations = match value_of(value, names)? {
        ShellValue::Series(series) if series.base != *base => {
            return Err(LineFault::new(
                value.at.clone(),
                "the column belongs to another frame: join the frames first",
            ));
        }
        // `df["y"] = df.apply("x * 2")`: the expression is the last operation of a frame of one column.
        ShellValue::Frame(operations) => match operations.split_last() {
            Some((Operation::Apply(apply), rest))
                if rest == base.as_slice() && apply.expression.is_some() =>
            {
                let sql = apply.expression.clone().unwrap_or_default();
                with(base.clone(), Operation::Assign { columns: vec![(column.to_owned(), sql)] })
            }
            _ => {
                let message = format!(
                    "a column is made of columns of the same frame: {name}[{column:?}] = {name}.x * 2"
                );
                return Err(LineFault::new(value.at.clone(), message));
            }
        },
        other => {
            let sql = operand(&(other, value.at.clone()))?;
            with(base.clone(), Operation::Assign { columns: vec![(column.to_owned(), sql)] })
        }
    };
    Ok(ShellAction::Keep { name, value: ShellValue::Frame(operations) })
}

/// Returns what an expression stands for.
fn value_of(syntax: &Syntax, names: &ShellNames) -> Result<ShellValue, LineFault> {
    match &syntax.kind {
        SyntaxKind::Name(name) => named(name, syntax, names),
        SyntaxKind::Text(text) => Ok(ShellValue::Literal(Value::String(text.clone()))),
        SyntaxKind::Number(number) => Ok(ShellValue::Literal(Value::Number(number.clone()))),
        SyntaxKind::Truth(truth) => Ok(ShellValue::Literal(Value::Bool(*truth))),
        SyntaxKind::Missing => Ok(ShellValue::Literal(Value::Null)),
        SyntaxKind::List(items) => {
            let items: Result<_, _> = items.iter().map(|item| literal_of(item, names)).collect();
            Ok(ShellValue::Literal(Value::Array(items?)))
        }
        SyntaxKind::Map(items) => map_of(items, names),
        SyntaxKind::Attribute(of, name, at) => {
            let receiver = value_of(of, names)?;
            attribute(receiver, name, at, columns_of(of, names))
        }
        SyntaxKind::Call(of, arguments) => call(of, arguments, syntax, names),
        SyntaxKind::Index(of, key) => index(value_of(of, names)?, of, key, names),
        SyntaxKind::Unary(operator, of) => sign(*operator, (value_of(of, names)?, of.at.clone())),
        SyntaxKind::Binary(operator, left, right) => {
            let left = (value_of(left, names)?, left.at.clone());
            let right = (value_of(right, names)?, right.at.clone());
            join(*operator, left, right)
        }
        SyntaxKind::Lambda(..) => Err(LineFault::new(syntax.at.clone(), advice::LAMBDA)),
    }
}

fn named(name: &str, syntax: &Syntax, names: &ShellNames) -> Result<ShellValue, LineFault> {
    if let Some(known) = names.get(name) {
        return Ok(known.value.clone());
    }
    match name {
        "dd" | "pd" | "dask" | "pandas" => Ok(ShellValue::Library),
        _ => Err(LineFault::new(syntax.at.clone(), advice::unknown_name(name, names))),
    }
}

fn columns_of<'a>(syntax: &Syntax, names: &'a ShellNames) -> Option<&'a [String]> {
    match &syntax.kind {
        SyntaxKind::Name(name) => names.get(name)?.columns.as_deref(),
        _ => None,
    }
}

fn literal_of(syntax: &Syntax, names: &ShellNames) -> Result<Value, LineFault> {
    match value_of(syntax, names)? {
        ShellValue::Literal(value) => Ok(value),
        // `df.groupby([df.a, df.b])`
        ShellValue::Series(Series { column: Some(column), .. }) => Ok(Value::String(column)),
        other => Err(LineFault::new(
            syntax.at.clone(),
            format!("a list holds numbers and texts, and not {}", other.kind()),
        )),
    }
}

fn map_of(items: &[(Syntax, Syntax)], names: &ShellNames) -> Result<ShellValue, LineFault> {
    let mut map = Map::new();
    for (key, value) in items {
        let name = match literal_of(key, names)? {
            Value::String(name) => name,
            Value::Number(number) => number.to_string(),
            _ => return Err(LineFault::new(key.at.clone(), "a key is a text: {\"x\": \"int64\"}")),
        };
        // `{"x": int}` and `{"x": str}` are types in Python.
        let value = match &value.kind {
            SyntaxKind::Name(word)
                if matches!(word.as_str(), "int" | "float" | "str" | "bool" | "object") =>
            {
                Value::String(word.clone())
            }
            _ => literal_of(value, names)?,
        };
        map.insert(name, value);
    }
    Ok(ShellValue::Literal(Value::Object(map)))
}

fn attribute(
    receiver: ShellValue,
    name: &str,
    at: &Range<usize>,
    columns: Option<&[String]>,
) -> Result<ShellValue, LineFault> {
    let fault = |message: String| Err(LineFault::new(at.clone(), message));
    match receiver {
        ShellValue::Frame(base) => match name {
            "columns" => Ok(ShellValue::Frame(with(base, Operation::Columns {}))),
            "dtypes" => Ok(ShellValue::Frame(with(base, Operation::Dtypes {}))),
            _ if columns.is_some_and(|columns| columns.iter().any(|column| column == name))
                && !FRAME_METHODS.contains(&name) =>
            {
                Ok(ShellValue::Series(Series::plain(&base, name)))
            }
            _ if FRAME_METHODS.contains(&name) => fault(advice::uncalled(name)),
            _ if columns.is_some() || advice::is_of_pandas(name) => {
                fault(advice::unknown_column(name, columns))
            }
            _ => Ok(ShellValue::Series(Series::plain(&base, name))),
        },
        ShellValue::Series(series) => accessor(&series, name).map_or_else(
            || {
                let known = SERIES_METHODS.contains(&name);
                fault(if known {
                    advice::uncalled(name)
                } else {
                    advice::unknown(name, "a column", &SERIES_METHODS)
                })
            },
            Ok,
        ),
        ShellValue::Accessor(series, SeriesAccessor::Time) => {
            time_part(&series, name).map_or_else(|| fault(advice::unknown(name, "a time", &TIME_PARTS)), Ok)
        }
        ShellValue::Accessor(_, SeriesAccessor::Text) => fault(advice::uncalled(name)),
        ShellValue::Groups(_) if GROUP_METHODS.contains(&name) => fault(advice::uncalled(name)),
        ShellValue::Groups(groups) => {
            Ok(ShellValue::Groups(GroupedRows { columns: vec![name.to_owned()], ..groups }))
        }
        ShellValue::Library if name == "dataframe" => Ok(ShellValue::Library),
        other => fault(format!("{} has no `{name}`", other.kind())),
    }
}

fn index(
    receiver: ShellValue,
    of: &Syntax,
    key: &Syntax,
    names: &ShellNames,
) -> Result<ShellValue, LineFault> {
    let at = key.at.clone();
    let columns = columns_of(of, names);
    let unknown = |name: &str| columns.is_some_and(|columns| columns.iter().all(|column| column != name));
    match (receiver, value_of(key, names)?) {
        (ShellValue::Frame(_), ShellValue::Literal(Value::String(name))) if unknown(&name) => {
            Err(LineFault::new(at, advice::unknown_column(&name, columns)))
        }
        (ShellValue::Frame(base), ShellValue::Literal(Value::String(name))) => {
            Ok(ShellValue::Series(Series::plain(&base, &name)))
        }
        (ShellValue::Frame(base), ShellValue::Literal(Value::Array(names))) => {
            let chosen = texts(&names, &at)?;
            if let Some(name) = chosen.iter().find(|name| unknown(name)) {
                return Err(LineFault::new(at, advice::unknown_column(name, columns)));
            }
            Ok(ShellValue::Frame(with(base, Operation::Select { columns: chosen })))
        }
        (ShellValue::Frame(base), ShellValue::Series(mask)) => {
            Ok(ShellValue::Frame(rows::where_true(&base, mask).ok_or_else(|| rows::fault(at))?))
        }
        (ShellValue::Series(series), ShellValue::Series(mask)) => {
            let base = rows::where_true(&series.base, mask).ok_or_else(|| rows::fault(at))?;
            Ok(ShellValue::Series(Series { base, ..series }))
        }
        (ShellValue::Groups(groups), ShellValue::Literal(Value::String(name))) => {
            Ok(ShellValue::Groups(GroupedRows { columns: vec![name], ..groups }))
        }
        (ShellValue::Groups(groups), ShellValue::Literal(Value::Array(names))) => {
            Ok(ShellValue::Groups(GroupedRows { columns: texts(&names, &at)?, ..groups }))
        }
        (receiver, _) => Err(LineFault::new(
            at,
            format!(
                "{} takes no such key: df[\"x\"] is a column, df[[\"x\", \"y\"]] are several, df[df.x > 3] are rows",
                receiver.kind()
            ),
        )),
    }
}

fn texts(names: &[Value], at: &Range<usize>) -> Result<Vec<String>, LineFault> {
    let texts: Option<Vec<_>> = names.iter().map(|name| name.as_str().map(str::to_owned)).collect();
    texts
        .filter(|texts| !texts.is_empty())
        .ok_or_else(|| LineFault::new(at.clone(), "names of columns are expected: df[[\"x\", \"y\"]]"))
}

fn call(
    of: &Syntax,
    arguments: &[SyntaxArgument],
    whole: &Syntax,
    names: &ShellNames,
) -> Result<ShellValue, LineFault> {
    match &of.kind {
        SyntaxKind::Name(name) => {
            let arguments = CallArguments::new(name, of.at.clone(), given(arguments, None, names)?);
            function(name, arguments, of, names)
        }
        SyntaxKind::Attribute(receiver, name, at) => {
            let of = value_of(receiver, names)?;
            let receiver_text = advice::CallReceiver { value: &of, syntax: receiver };
            let arguments =
                CallArguments::new(name, at.clone(), given(arguments, Some(&receiver_text), names)?);
            method(&of, name, at, arguments, &names.modules)
        }
        _ => Err(LineFault::new(
            whole.at.clone(),
            "this cannot be called: an operation stands behind a dot, df.head(3)",
        )),
    }
}

fn given(
    arguments: &[SyntaxArgument],
    receiver: Option<&advice::CallReceiver<'_>>,
    names: &ShellNames,
) -> Result<Vec<GivenArgument>, LineFault> {
    let mut all = Vec::new();
    for argument in arguments {
        if let SyntaxKind::Lambda(parameters, body) = &argument.value.kind {
            let message =
                advice::instead_of_lambda(parameters, receiver, names, |names| value_of(body, names));
            return Err(LineFault::new(argument.value.at.clone(), message));
        }
        all.push(GivenArgument {
            name: argument.name.as_ref().map(|(name, _)| name.clone()),
            at: argument.name.as_ref().map_or(argument.value.at.start, |(_, at)| at.start)
                ..argument.value.at.end,
            value: value_of(&argument.value, names)?,
        });
    }
    Ok(all)
}

fn function(
    name: &str,
    mut arguments: CallArguments,
    of: &Syntax,
    names: &ShellNames,
) -> Result<ShellValue, LineFault> {
    match name {
        "read_csv" => read_csv(arguments),
        "len" => {
            let counted = arguments.take(&[]);
            let counted = arguments.require(counted, "len(df)")?;
            arguments.finish("len(df)")?;
            match counted.value {
                ShellValue::Literal(Value::Array(items)) => Ok(ShellValue::Literal(items.len().into())),
                value => Ok(ShellValue::Frame(with(frame_of(value, &counted.at)?, Operation::Len {}))),
            }
        }
        _ => Err(LineFault::new(of.at.clone(), advice::unknown_function(name, names))),
    }
}

fn method(
    of: &ShellValue,
    name: &str,
    at: &Range<usize>,
    arguments: CallArguments,
    modules: &NamedModules,
) -> Result<ShellValue, LineFault> {
    let called = match of {
        ShellValue::Library if name == "read_csv" => Some(read_csv(arguments)),
        ShellValue::Frame(base) => call_frame(base, name, arguments, modules),
        ShellValue::Groups(groups) => call_groups(groups, name, arguments),
        ShellValue::Accessor(series, SeriesAccessor::Text) => call_text(series, name, arguments),
        ShellValue::Series(series) => match name {
            "to_csv" | "to_parquet" => Some(save(&series.clone().into_frame(), name, arguments)),
            "head" | "tail" | "persist" | "explain" | "dropna" => {
                call_frame(&series.clone().into_frame(), name, arguments, modules)
            }
            _ => call_series(series, name, arguments),
        },
        _ => None,
    };
    called.unwrap_or_else(|| {
        let (kind, methods): (&str, &[&str]) = match of {
            ShellValue::Frame(_) => ("a frame", &FRAME_METHODS),
            ShellValue::Groups(_) => ("a groupby", &GROUP_METHODS),
            ShellValue::Series(_) => ("a column", &SERIES_METHODS),
            ShellValue::Accessor(_, SeriesAccessor::Text) => ("a column of texts", &TEXT_METHODS),
            other => (other.kind(), &[]),
        };
        Err(LineFault::new(at.clone(), advice::unknown(name, kind, methods)))
    })
}
