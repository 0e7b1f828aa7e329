//! Texts and numbers.

use serde_json::Number;
use winnow::stream::Stream as _;

use super::cursor::{Cursor, Parsed, is_word, place, rest, wrong};
use crate::language::syntax::{Syntax, SyntaxKind};

/// Reads a text in quotes. A `raw` one keeps its backslashes.
pub(super) fn text(cursor: &mut Cursor<'_>, raw: bool) -> Parsed<Syntax> {
    let start = place(cursor);
    let source = rest(cursor);
    let quote = if source.starts_with('"') { '"' } else { '\'' };
    let mut text = String::new();
    let mut characters = source.char_indices().skip(1);
    while let Some((at, character)) = characters.next() {
        match character {
            _ if character == quote => {
                cursor.next_slice(at + 1);
                return Ok(Syntax::new(SyntaxKind::Text(text), start..place(cursor)));
            }
            '\\' if !raw => match characters.next().map(|(_, escaped)| escaped) {
                Some('n') => text.push('\n'),
                Some('t') => text.push('\t'),
                Some('r') => text.push('\r'),
                Some(escaped @ ('\\' | '"' | '\'')) => text.push(escaped),
                // As Python does. A pattern such as "\d" is meant so.
                Some(other) => text.extend(['\\', other]),
                None => break,
            },
            _ => text.push(character),
        }
    }
    wrong(start..start + 1, format!("the closing {quote} is missing"))
}

/// Reads a number: `3`, `1_000`, `2.5`, `.5`, `1e-3`.
pub(super) fn number(cursor: &mut Cursor<'_>) -> Parsed<Syntax> {
    let start = place(cursor);
    let source = rest(cursor);
    let mut length = digits(source);
    let mut whole = true;
    if source[length..].starts_with('.')
        && !source[length + 1..].starts_with(|c: char| is_word(c) && !c.is_ascii_digit())
    {
        whole = false;
        length += 1 + digits(&source[length + 1..]);
    }
    if source[length..].starts_with(['e', 'E']) {
        let sign = usize::from(source[length + 1..].starts_with(['+', '-']));
        let exponent = digits(&source[length + 1 + sign..]);
        if exponent > 0 {
            whole = false;
            length += 1 + sign + exponent;
        }
    }
    let word = source[length..].find(|character| !is_word(character)).unwrap_or(source.len() - length);
    let at = start..start + length;
    if word > 0 {
        return wrong(
            start..at.end + word,
            "this is neither a number nor a name; a name begins with a letter",
        );
    }
    let plain = source[..length].replace('_', "");
    cursor.next_slice(length);
    let number = if whole { plain.parse::<u64>().ok().map(Number::from) } else { None };
    let number = number.or_else(|| plain.parse::<f64>().ok().and_then(Number::from_f64));
    match number {
        Some(number) => Ok(Syntax::new(SyntaxKind::Number(number), at)),
        None => wrong(at, "the number is too large"),
    }
}

fn digits(text: &str) -> usize {
    text.find(|character: char| !character.is_ascii_digit() && character != '_').unwrap_or(text.len())
}
