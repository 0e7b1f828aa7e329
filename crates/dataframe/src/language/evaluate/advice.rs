//! What to write instead of what is wrong.

use dataframe_jobs::operation::Operation;

use crate::language::fault::LineFault;
use crate::language::syntax::{Syntax, SyntaxKind};
use crate::language::value::{Series, ShellNames, ShellValue, with};

/// For a Python function in a place where nothing better can be said.
pub(super) const LAMBDA: &str = "Python functions are not run here: write an expression in SQL, such as df.apply(\"x * 2 + length(name)\")";

/// Names are similar from here on.
const SIMILAR: f64 = 0.75;

/// Attributes of pandas' frames that would otherwise be taken for columns.
const OF_PANDAS: [&str; 9] = ["iloc", "loc", "index", "values", "shape", "size", "at", "iat", "plot"];

/// In front of the dot of a method.
pub(super) struct CallReceiver<'a> {
    pub(super) value: &'a ShellValue,
    pub(super) syntax: &'a Syntax,
}

pub(super) fn is_of_pandas(name: &str) -> bool {
    OF_PANDAS.contains(&name)
}

fn similar<'a>(name: &str, known: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let scored = known.into_iter().map(|other| (strsim::jaro_winkler(name, other), other));
    scored.filter(|(score, _)| *score >= SIMILAR).max_by(|a, b| a.0.total_cmp(&b.0)).map(|(_, other)| other)
}

fn meant(name: &str, known: &[&str]) -> String {
    similar(name, known.iter().copied()).map_or(String::new(), |other| format!("; `{other}` is similar"))
}

pub(super) fn unknown_name(name: &str, names: &ShellNames) -> String {
    let known: Vec<_> = names.iter().map(|(name, _)| name).collect();
    if known.is_empty() {
        return format!("`{name}` is not known: {name} = read_csv(\"data/*.csv\") makes it a frame");
    }
    format!("`{name}` is not known{}; known: {}", meant(name, &known), known.join(", "))
}

pub(super) fn unknown_function(name: &str, names: &ShellNames) -> String {
    match name {
        _ if names.get(name).is_some() => {
            format!("`{name}` is not a function: operations stand behind a dot, {name}.head(3)")
        }
        "print" => "no print is needed: the value of a line is shown".to_owned(),
        _ => format!(
            "there is no function `{name}`{}; functions: read_csv, len",
            meant(name, &["read_csv", "len"])
        ),
    }
}

pub(super) fn unknown(name: &str, kind: &str, known: &[&str]) -> String {
    let mut sorted = known.to_vec();
    sorted.sort_unstable();
    let list = if known.is_empty() { String::new() } else { format!("; there are: {}", sorted.join(", ")) };
    format!("{kind} has no `{name}`{}{list}", meant(name, known))
}

pub(super) fn unknown_column(name: &str, columns: Option<&[String]>) -> String {
    let instead = match name {
        "shape" | "size" => Some("len(df) is the number of rows, and df.columns are the columns"),
        "iloc" | "loc" | "at" | "iat" | "index" => {
            Some("rows have no index: df[df.x > 3] or df.head(3) choose rows, and df[\"x\"] chooses a column")
        }
        "values" => Some("df[[\"x\", \"y\"]] chooses columns"),
        _ => None,
    };
    let columns = columns.unwrap_or_default();
    let known: Vec<_> = columns.iter().map(String::as_str).collect();
    match instead {
        Some(instead) => format!("there is no `{name}`: {instead}"),
        None => format!(
            "there is no column and no operation `{name}`{}; columns: {}",
            meant(name, &known),
            known.join(", ")
        ),
    }
}

pub(super) fn uncalled(name: &str) -> String {
    format!(
        "`{name}` is an operation, and takes parentheses: {name}(…); a column of this name is [\"{name}\"]"
    )
}

/// Says which expression to write instead of a Python function.
pub(super) fn instead_of_lambda(
    parameters: &[String],
    receiver: Option<&CallReceiver<'_>>,
    names: &ShellNames,
    value_of: impl FnOnce(&ShellNames) -> Result<ShellValue, LineFault>,
) -> String {
    let expression = receiver.and_then(|receiver| {
        let parameter = parameters.first()?;
        let mut inside = names.clone();
        inside.assign(parameter, receiver.value.clone(), None);
        let (ShellValue::Series(Series { base, .. }) | ShellValue::Frame(base)) = receiver.value else {
            return None;
        };
        match value_of(&inside).ok()? {
            ShellValue::Series(series) if series.base == *base => {
                Some((plain(&series.sql), frame_text(receiver.syntax)))
            }
            // `len(text)`
            ShellValue::Frame(operations) => {
                let ShellValue::Series(series) = receiver.value else { return None };
                let counted = with(series.clone().into_frame(), Operation::Len {});
                (operations == counted)
                    .then(|| (plain(&format!("length({})", series.sql)), frame_text(receiver.syntax)))
            }
            _ => None,
        }
    });
    match expression {
        Some((expression, frame)) => {
            let quote = if expression.contains('"') && !expression.contains('\'') { '\'' } else { '"' };
            let expression = if quote == '"' { expression.replace('"', "\\\"") } else { expression };
            format!(
                "Python functions are not run here: write the expression in SQL, {frame}.apply({quote}{expression}{quote})"
            )
        }
        None => LAMBDA.to_owned(),
    }
}

/// The name of the frame in front of a method.
fn frame_text(syntax: &Syntax) -> &str {
    match &syntax.kind {
        SyntaxKind::Name(name) => name,
        SyntaxKind::Attribute(of, ..) | SyntaxKind::Index(of, _) => frame_text(of),
        _ => "df",
    }
}

/// Returns SQL as a person writes it: with quotes around names only where they are needed, and no outer parentheses.
fn plain(sql: &str) -> String {
    let mut text = String::new();
    let mut rest = sql;
    while let Some(quote) = rest.find(['"', '\'']) {
        let mark = &rest[quote..=quote];
        let Some(length) = rest[quote + 1..].find(mark) else { break };
        let name = &rest[quote + 1..quote + 1 + length];
        let simple = mark == "\""
            && name.starts_with(|first: char| first.is_ascii_lowercase())
            && name.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        text.push_str(&rest[..quote]);
        text.push_str(if simple { name } else { &rest[quote..quote + length + 2] });
        rest = &rest[quote + length + 2..];
    }
    text.push_str(rest);
    let inner = text.strip_prefix('(').and_then(|inner| inner.strip_suffix(')'));
    // `(a) + (b)` begins and ends with parentheses that do not belong together.
    match inner {
        Some(inner)
            if inner.find(')').is_none_or(|close| inner.find('(').is_some_and(|open| open < close)) =>
        {
            inner.to_owned()
        }
        _ => text,
    }
}
