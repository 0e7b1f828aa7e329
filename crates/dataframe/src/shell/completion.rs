//! What can stand at the cursor. Pure: nothing is read.

use std::collections::BTreeMap;

use crate::language::frames::{FRAME_ATTRIBUTES, FRAME_METHODS, GROUP_METHODS};
use crate::language::help::find;
use crate::language::series::{SERIES_METHODS, TEXT_METHODS, TIME_PARTS};
use crate::language::statement::COMMANDS;

/// Names of frames, and their columns.
pub type KnownFrames = BTreeMap<String, Vec<String>>;

/// What can stand at the cursor.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Completion {
    /// These words, each in place of what begins at `start`.
    Words {
        /// In bytes.
        start: usize,
        /// In alphabetical order.
        words: Vec<String>,
    },
    /// The name of a file.
    FileName,
}

/// Returns what can stand at the cursor.
#[must_use]
pub fn complete(line: &str, pos: usize, known: &KnownFrames) -> Completion {
    let before = &line[..line.floor_char_boundary(pos)];
    if let Some(quote) = open_quote(before) {
        let call = before[..quote].trim_end();
        let is_path =
            ["read_csv(", "read_csv([", "to_csv(", "to_parquet("].iter().any(|open| call.ends_with(open));
        if is_path {
            return Completion::FileName;
        }
        return words(quote + 1, &before[quote + 1..], columns(before, known));
    }
    let start = before.rfind(|character: char| !is_word(character)).map_or(0, |at| at + 1);
    let start = before.ceil_char_boundary(start);
    let word = &before[start..];
    let Some(receiver) = before[..start].strip_suffix('.') else {
        let mut all: Vec<_> = known.keys().cloned().collect();
        all.extend(["read_csv(", "len("].map(str::to_owned));
        let first = before[..start].trim().is_empty();
        if first {
            all.extend(COMMANDS.map(str::to_owned));
        }
        return words(start, word, all);
    };
    // What takes no arguments stands on the right.
    let (methods, parts): (&[&str], &[&str]) = if receiver.ends_with(".str") {
        (&TEXT_METHODS, &[])
    } else if receiver.ends_with(".dt") {
        (&[], &TIME_PARTS)
    } else if is_groups(receiver) {
        (&GROUP_METHODS, &[])
    } else if is_series(receiver, known) {
        (&SERIES_METHODS, &["str", "dt"])
    } else {
        (&FRAME_METHODS, &FRAME_ATTRIBUTES)
    };
    let mut all: Vec<_> = methods.iter().map(|method| format!("{method}(")).collect();
    all.extend(parts.iter().map(|part| (*part).to_owned()));
    if !is_series(receiver, known) {
        all.extend(columns(receiver, known).into_iter().filter(|column| column.chars().all(is_word)));
    }
    words(start, word, all)
}

fn words(start: usize, begin: &str, mut all: Vec<String>) -> Completion {
    all.retain(|word| word.starts_with(begin));
    all.sort_unstable();
    all.dedup();
    Completion::Words { start, words: all }
}

fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

/// Returns where the quote stands that is open at the end of the text.
fn open_quote(text: &str) -> Option<usize> {
    let mut open: Option<(usize, char)> = None;
    let mut escaped = false;
    for (at, character) in text.char_indices() {
        match (open, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some((_, quote)), _) if character == quote => open = None,
            (None, '"' | '\'') => open = Some((at, character)),
            _ => {}
        }
    }
    open.map(|(at, _)| at)
}

/// The columns of the frame whose name was written last.
fn columns(before: &str, known: &KnownFrames) -> Vec<String> {
    let named = before.split(|character| !is_word(character)).rev().find_map(|word| known.get(word));
    named.cloned().unwrap_or_default()
}

fn is_groups(receiver: &str) -> bool {
    let last_groupby = receiver.rfind(".groupby(");
    last_groupby
        .is_some_and(|at| GROUP_METHODS.iter().all(|method| !receiver[at..].contains(&format!(".{method}("))))
}

fn is_series(receiver: &str, known: &KnownFrames) -> bool {
    known.iter().any(|(name, columns)| {
        let rest = receiver
            .strip_suffix("\"]")
            .or_else(|| receiver.strip_suffix("']"))
            .map_or(receiver, |rest| rest);
        columns.iter().any(|column| {
            [format!("{name}.{column}"), format!("{name}[\"{column}"), format!("{name}['{column}")]
                .iter()
                .any(|end| rest.strip_suffix(end.as_str()).is_some_and(|before| !before.ends_with(is_word)))
        })
    })
}

/// Returns how the operation is written whose opening bracket stands before the cursor, at the end of the line.
#[must_use]
pub fn usage_hint(line: &str, pos: usize) -> Option<String> {
    let call = line.strip_suffix('(').filter(|_| pos == line.len())?;
    let start = call.rfind(|character: char| !is_word(character)).map_or(0, |at| at + 1);
    let name = call.get(start..)?;
    let topic = find(name)?;
    let usage = topic.usage;
    let at = usage.find(&format!("{name}("))? + name.len() + 1;
    let end = usage[at..].find("), ").map_or(usage.len(), |end| at + end + 1);
    Some(usage[at..end].to_owned())
}

/// Returns whether a bracket is open at the end of the text, so that it goes on in the next line.
#[must_use]
pub fn is_open(text: &str) -> bool {
    let first = text.split_whitespace().next().unwrap_or_default();
    // A query has brackets and quotes of its own.
    if matches!(first, "sql" | "help" | "nodes") || open_quote(text).is_some() {
        return false;
    }
    let mut depth = 0_i64;
    let mut quote = None;
    let mut escaped = false;
    for character in text.chars() {
        match (quote, character) {
            _ if escaped => escaped = false,
            (Some(_), '\\') => escaped = true,
            (Some(open), _) if character == open => quote = None,
            (None, '"' | '\'') => quote = Some(character),
            (None, '(' | '[' | '{') => depth += 1,
            (None, ')' | ']' | '}') => depth -= 1,
            _ => {}
        }
    }
    depth > 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words_at(line: &str) -> Vec<String> {
        let known = KnownFrames::from([
            ("df".to_owned(), vec!["name".to_owned(), "x".to_owned(), "día".to_owned()]),
            ("other".to_owned(), vec!["id".to_owned()]),
        ]);
        match complete(line, line.len(), &known) {
            Completion::Words { words, .. } => words,
            Completion::FileName => vec!["FILE".to_owned()],
        }
    }

    #[test]
    fn operations_columns_and_names_are_completed() {
        assert_eq!(words_at("df.gr"), ["groupby("]);
        assert_eq!(words_at("df.na"), ["name"]);
        assert_eq!(words_at("o"), ["other"]);
        assert_eq!(words_at("df.name.st"), ["std(", "str"]);
        assert_eq!(words_at("df[\"name\"].va"), ["value_counts(", "var("]);
        assert_eq!(words_at("df.name.str.nothing"), Vec::<String>::new());
        assert_eq!(words_at("df.name.str.lo"), ["lower("]);
        assert_eq!(words_at("df.groupby(\"name\").s"), ["size(", "std(", "sum("]);
        assert_eq!(words_at("df[\"d"), ["día"]);
        assert_eq!(words_at("df.merge(other, on=\"i"), ["id"]);
        assert_eq!(words_at("expl"), ["explain"]);
        assert_eq!(words_at("df = re"), ["read_csv("]);
        assert_eq!(words_at("df = read_csv(\"da"), ["FILE"]);
    }

    #[test]
    fn brackets_keep_a_line_open() {
        assert!(is_open("df.groupby("));
        assert!(!is_open("df.groupby(\"(\")"));
        assert!(!is_open("sql select count( from df"));
        assert!(!is_open("df[\"x"), "an open quote is an error, and no bracket");
        assert!(!is_open(")"));
    }

    #[test]
    fn a_hint_tells_the_arguments() {
        assert_eq!(usage_hint("df.groupby(", 11).as_deref(), Some("\"name\").agg(\"mean(x)\")"));
        assert_eq!(usage_hint("df.head(", 8).as_deref(), Some("3)"));
        assert_eq!(usage_hint("df.foo(", 7), None);
    }
}
