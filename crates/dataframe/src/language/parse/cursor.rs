//! The rest of a line, and what is taken off it.

use std::ops::Range;

use winnow::error::{ErrMode, ParserError};
use winnow::stream::{LocatingSlice, Location as _, Stateful, Stream as _};

use crate::language::fault::LineFault;
use crate::language::syntax::{MAX_DEPTH, Syntax, SyntaxKind};

/// The deepest brackets that are read.
const MAX_BRACKETS: usize = 32;
/// The most signs in front of operands, and powers, that a line may have: each of them takes a part of the stack.
const MAX_SIGNS: usize = 64;

/// The rest of a line, and what has been spent on reading it.
pub(super) type Cursor<'a> = Stateful<LocatingSlice<&'a str>, Effort>;
pub(super) type Parsed<T> = Result<T, ErrMode<LineFault>>;

#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Effort {
    brackets: usize,
    signs: usize,
}

impl ParserError<Cursor<'_>> for LineFault {
    type Inner = Self;

    fn from_input(input: &Cursor<'_>) -> Self {
        let start = input.current_token_start();
        Self::new(start..start, "a value is missing here, such as df, df.x or 3")
    }

    fn into_inner(self) -> Result<Self, Self> {
        Ok(self)
    }
}

/// Returns a cursor at `start`.
pub(super) fn cursor_at(text: &str, start: usize) -> Cursor<'_> {
    let mut cursor = Cursor { input: LocatingSlice::new(text), state: Effort::default() };
    cursor.next_slice(start);
    cursor
}

pub(super) fn is_word(character: char) -> bool {
    character.is_alphanumeric() || character == '_'
}

pub(super) fn rest<'a>(cursor: &Cursor<'a>) -> &'a str {
    cursor.peek_slice(cursor.eof_offset())
}

pub(super) fn place(cursor: &Cursor<'_>) -> usize {
    cursor.current_token_start()
}

/// Skips blanks and comments.
pub(super) fn blank(cursor: &mut Cursor<'_>) {
    loop {
        let rest = rest(cursor);
        let blanks = rest.len() - rest.trim_start().len();
        let comment = if rest[blanks..].starts_with('#') {
            rest[blanks..].find('\n').unwrap_or(rest.len() - blanks)
        } else {
            0
        };
        cursor.next_slice(blanks + comment);
        if comment == 0 {
            return;
        }
    }
}

/// Takes `symbol` if it comes next.
pub(super) fn take(cursor: &mut Cursor<'_>, symbol: &str) -> bool {
    blank(cursor);
    let found = rest(cursor).starts_with(symbol);
    if found {
        cursor.next_slice(symbol.len());
    }
    found
}

/// Takes the word that comes next.
pub(super) fn take_word<'a>(cursor: &mut Cursor<'a>) -> Option<(&'a str, Range<usize>)> {
    blank(cursor);
    let rest = rest(cursor);
    let first = rest.chars().next()?;
    if !is_word(first) || first.is_numeric() {
        return None;
    }
    let length = rest.find(|character: char| !is_word(character)).unwrap_or(rest.len());
    let start = place(cursor);
    Some((cursor.next_slice(length), start..start + length))
}

pub(super) fn take_keyword(cursor: &mut Cursor<'_>, word: &str) -> bool {
    blank(cursor);
    let rest = rest(cursor);
    let found = rest.starts_with(word) && !rest[word.len()..].starts_with(is_word);
    if found {
        cursor.next_slice(word.len());
    }
    found
}

pub(super) fn wrong<T>(at: Range<usize>, message: impl Into<String>) -> Parsed<T> {
    Err(ErrMode::Cut(LineFault::new(at, message)))
}

/// Refuses trees that are too deep for the stack.
pub(super) fn grown(kind: SyntaxKind, at: Range<usize>) -> Parsed<Syntax> {
    let syntax = Syntax::new(kind, at);
    if syntax.depth > MAX_DEPTH {
        return wrong(syntax.at, "the expression is too long: give a part of it a name first");
    }
    Ok(syntax)
}

/// Reads something inside brackets, which are counted.
pub(super) fn nested<T>(
    cursor: &mut Cursor<'_>,
    read: impl FnOnce(&mut Cursor<'_>) -> Parsed<T>,
) -> Parsed<T> {
    if cursor.state.brackets == MAX_BRACKETS {
        let at = place(cursor);
        return wrong(at..at, format!("more than {MAX_BRACKETS} brackets are open here"));
    }
    cursor.state.brackets += 1;
    let outcome = read(cursor);
    cursor.state.brackets -= 1;
    outcome
}

pub(super) fn count_sign(cursor: &mut Cursor<'_>) -> Parsed<()> {
    cursor.state.signs += 1;
    let at = place(cursor);
    if cursor.state.signs > MAX_SIGNS {
        return wrong(
            at..at,
            format!("the line has more than {MAX_SIGNS} signs and powers: give a part of it a name first"),
        );
    }
    Ok(())
}
