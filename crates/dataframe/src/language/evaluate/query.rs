//! `sql select … from sales`: the query's frame, under its own name.

use std::collections::BTreeSet;
use std::ops::Range;

use dataframe_jobs::operation::Operation;

use crate::language::fault::LineFault;
use crate::language::value::{ShellNames, ShellValue, with};

/// The name of the table in [`Operation::Sql`].
const TABLE: &str = "df";

/// A word of a query, or what stands between two words.
struct QueryPart<'a> {
    text: &'a str,
    at: usize,
    is_word: bool,
}

/// Returns the operations of a query on a frame that has a name.
pub(super) fn on_frame(
    query: &str,
    at: Range<usize>,
    names: &ShellNames,
) -> Result<Vec<Operation>, LineFault> {
    let parts = parts(query);
    let mut tables = BTreeSet::new();
    for (place, part) in parts.iter().enumerate() {
        if part.is_word && follows_from(&parts[..place]) && is_frame(part.text, names) {
            tables.insert(part.text);
        }
    }
    let mut tables = tables.into_iter();
    let table = match (tables.next(), tables.next()) {
        (Some(table), None) => table,
        (Some(one), Some(other)) => {
            let message = format!(
                "a query sees one frame: join {one} and {other} first, df = {one}.merge({other}, on=\"id\")"
            );
            return Err(LineFault::new(at, message));
        }
        (None, _) => return Err(no_table(&parts, at, names)),
    };
    let base = match names.get(table).map(|known| &known.value) {
        Some(ShellValue::Frame(base)) => base.clone(),
        _ => return Err(no_table(&parts, at, names)),
    };
    let renamed = parts.iter().enumerate().map(|(place, part)| {
        let is_table = part.text == table
            && part.is_word
            && (follows_from(&parts[..place])
                || parts.get(place + 1).is_some_and(|next| next.text.starts_with('.')));
        if is_table { TABLE } else { part.text }
    });
    Ok(with(base, Operation::sql(renamed.collect::<String>())))
}

fn no_table(parts: &[QueryPart<'_>], at: Range<usize>, names: &ShellNames) -> LineFault {
    let unknown =
        parts.iter().enumerate().find(|(place, part)| part.is_word && follows_from(&parts[..*place]));
    let frames: Vec<_> =
        names.iter().filter(|(name, _)| is_frame(name, names)).map(|(name, _)| name).collect();
    let frames = if frames.is_empty() {
        "none; df = read_csv(\"…\") makes one".to_owned()
    } else {
        frames.join(", ")
    };
    match unknown {
        Some((_, part)) => {
            let start = at.start + part.at;
            LineFault::new(
                start..start + part.text.len(),
                format!("`{}` is not a frame; frames: {frames}", part.text),
            )
        }
        None => LineFault::new(at, format!("the query names no frame: select … from df; frames: {frames}")),
    }
}

fn is_frame(name: &str, names: &ShellNames) -> bool {
    names.get(name).is_some_and(|known| matches!(known.value, ShellValue::Frame(_)))
}

/// Whether the last word is `from` or `join`.
fn follows_from(before: &[QueryPart<'_>]) -> bool {
    let Some((space, words)) = before.split_last() else { return false };
    space.text.trim().is_empty()
        && words.last().is_some_and(|word| {
            word.is_word && ["from", "join"].iter().any(|from| word.text.eq_ignore_ascii_case(from))
        })
}

/// Cuts a query into words and what stands between them. Quoted parts are no words.
fn parts(query: &str) -> Vec<QueryPart<'_>> {
    let mut parts = Vec::new();
    let mut at = 0;
    while let Some(first) = query[at..].chars().next() {
        let is_letter = |character: char| character.is_alphanumeric() || character == '_';
        let rest = &query[at..];
        let length = if is_letter(first) {
            rest.find(|character| !is_letter(character)).unwrap_or(rest.len())
        } else if matches!(first, '"' | '\'') {
            rest[1..].find(first).map_or(rest.len(), |end| end + 2)
        } else {
            rest.find(|character| is_letter(character) || matches!(character, '"' | '\''))
                .unwrap_or(rest.len())
        };
        parts.push(QueryPart { text: &rest[..length], at, is_word: is_letter(first) });
        at += length;
    }
    parts
}
