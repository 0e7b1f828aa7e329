//! Text → expression. The operators and their order are Python's, except that `&` and `|` bind less than comparisons, so
//! that `df.x > 1 & df.y < 2` means what it seems to mean; with parentheses both read the same.

use std::ops::Range;

use winnow::Parser as _;
use winnow::combinator::{Postfix, expression};
use winnow::error::{ErrMode, ParserError as _};
use winnow::stream::Stream as _;

use crate::language::fault::LineFault;
use crate::language::syntax::{Syntax, SyntaxArgument, SyntaxKind};

mod cursor;
mod literal;
mod operators;

use cursor::{Cursor, Parsed, blank, cursor_at, grown, is_word, nested, place, rest, take, take_word, wrong};
use operators::{binds, infix, prefix};

/// The longest line that is read.
pub const MAX_LINE_BYTES: usize = 64 << 10;

/// Reads one expression, which ends where the text ends or before what `ends` says.
///
/// Returns the expression and the place behind it.
///
/// # Errors
/// Fails if the text does not begin with an expression from `start` on.
pub fn parse_expression(text: &str, start: usize) -> Result<(Syntax, usize), LineFault> {
    if text.len() > MAX_LINE_BYTES {
        return Err(LineFault::new(0..0, format!("the line is longer than {} KiB", MAX_LINE_BYTES >> 10)));
    }
    let mut cursor = cursor_at(text, start);
    let read = whole(&mut cursor).map(|syntax| {
        blank(&mut cursor);
        (syntax, place(&cursor))
    });
    read.map_err(|error| match error {
        ErrMode::Backtrack(fault) | ErrMode::Cut(fault) => fault,
        ErrMode::Incomplete(_) => LineFault::new(text.len()..text.len(), "the line is not complete"),
    })
}

/// Reads one expression that is the whole text from `start` on.
///
/// # Errors
/// Fails if the text is something else.
pub fn parse_all(text: &str, start: usize) -> Result<Syntax, LineFault> {
    let (syntax, end) = parse_expression(text, start)?;
    if end == text.len() { Ok(syntax) } else { Err(unexpected(text, end)) }
}

fn unexpected(text: &str, at: usize) -> LineFault {
    let rest = &text[at..];
    known_mistake(rest, at).unwrap_or_else(|| {
        let word = word_length(rest);
        let message = match rest.as_bytes().first() {
            Some(b'=') => "a value can be given to a name or to a column: df = … or df[\"y\"] = …".to_owned(),
            Some(b';') => "one line holds one statement".to_owned(),
            _ => format!("`{}` does not continue the expression in front of it", &rest[..word]),
        };
        LineFault::new(at..at + word, message)
    })
}

/// Returns what is wrong, if an expression is followed by something that Python knows and this language does not.
fn known_mistake(rest: &str, at: usize) -> Option<LineFault> {
    let word = word_length(rest);
    let message = if ["==", "!=", "<", ">"].iter().any(|operator| rest.starts_with(operator)) {
        "comparisons are not chained: write (1 < df.x) & (df.x < 5), or df.x.between(1, 5)".to_owned()
    } else {
        python_only(PYTHON_ONLY.iter().find(|keyword| rest[..word] == ***keyword)?)
    };
    Some(LineFault::new(at..at + word, message))
}

/// The length of the word or the character that comes next.
fn word_length(rest: &str) -> usize {
    let first = rest.chars().next().map_or(0, char::len_utf8);
    rest.find(|character: char| !is_word(character)).unwrap_or(rest.len()).max(first)
}

const PYTHON_ONLY: [&str; 18] = [
    "if", "else", "for", "while", "import", "from", "def", "class", "return", "in", "is", "with", "try",
    "del", "print", "yield", "async", "await",
];

fn python_only(word: &str) -> String {
    match word {
        "in" => "`in` is written as a method: df.x.isin([1, 2])".to_owned(),
        "is" => "`is` is written as a method: df.x.isna()".to_owned(),
        "if" | "else" => {
            "a condition is written in SQL: df.apply(\"case when x > 3 then 1 else 0 end\")".to_owned()
        }
        "print" => "no print is needed: the value of a line is shown".to_owned(),
        _ => format!(
            "`{word}` belongs to Python, and lines of this prompt are not Python: `help` shows what can be written"
        ),
    }
}

/// An expression that has to come now.
fn whole(cursor: &mut Cursor<'_>) -> Parsed<Syntax> {
    blank(cursor);
    expression(operand).prefix(prefix).infix(infix).postfix(postfix).parse_next(cursor).map_err(ErrMode::cut)
}

fn operand(cursor: &mut Cursor<'_>) -> Parsed<Syntax> {
    blank(cursor);
    let start = place(cursor);
    let rest = rest(cursor);
    let mut characters = rest.chars();
    let Some(first) = characters.next() else { return Err(ErrMode::from_input(cursor)) };
    match first {
        '(' | '[' | '{' => bracketed(cursor, first),
        '"' | '\'' => literal::text(cursor, false),
        '0'..='9' => literal::number(cursor),
        '.' if characters.next().is_some_and(|next| next.is_ascii_digit()) => literal::number(cursor),
        'r' | 'R' | 'f' | 'F' | 'b' | 'B' if matches!(characters.next(), Some('"' | '\'')) => {
            if !matches!(first, 'r' | 'R') {
                return wrong(start..start + 1, "a text has no letter in front of its quotes, except r\"…\"");
            }
            cursor.next_slice(1);
            literal::text(cursor, true)
        }
        _ => {
            if rest.starts_with("not") && !rest[3..].starts_with(is_word) {
                return Err(ErrMode::from_input(cursor));
            }
            match take_word(cursor) {
                Some((word, at)) => named(cursor, word, at),
                None => Err(ErrMode::from_input(cursor)),
            }
        }
    }
}

fn named(cursor: &mut Cursor<'_>, word: &str, at: Range<usize>) -> Parsed<Syntax> {
    let kind = match word {
        "True" | "true" => SyntaxKind::Truth(true),
        "False" | "false" => SyntaxKind::Truth(false),
        "None" | "null" => SyntaxKind::Missing,
        "lambda" => return lambda(cursor, at),
        "and" | "or" => return wrong(at, format!("a value is missing in front of `{word}`")),
        _ if PYTHON_ONLY.contains(&word) => return wrong(at, python_only(word)),
        _ => SyntaxKind::Name(word.to_owned()),
    };
    Ok(Syntax::new(kind, at))
}

fn lambda(cursor: &mut Cursor<'_>, at: Range<usize>) -> Parsed<Syntax> {
    let mut names = Vec::new();
    while let Some((name, _)) = take_word(cursor) {
        names.push(name.to_owned());
        if !take(cursor, ",") {
            break;
        }
    }
    if !take(cursor, ":") {
        return wrong(
            at,
            "Python functions are not run here: write an expression in SQL, such as df.apply(\"x * 2\")",
        );
    }
    let body = nested(cursor, whole)?;
    let at = at.start..body.at.end;
    grown(SyntaxKind::Lambda(names, Box::new(body)), at)
}

fn bracketed(cursor: &mut Cursor<'_>, open: char) -> Parsed<Syntax> {
    let start = place(cursor);
    cursor.next_slice(1);
    if open == '{' {
        let pairs = nested(cursor, |cursor| items(cursor, '{', start, pair))?;
        return grown(SyntaxKind::Map(pairs), start..place(cursor));
    }
    let mut values = nested(cursor, |cursor| items(cursor, open, start, whole))?;
    let at = start..place(cursor);
    if open == '(' && values.len() == 1 {
        let inner = values.remove(0);
        return Ok(Syntax { at, ..inner });
    }
    grown(SyntaxKind::List(values), at)
}

fn pair(cursor: &mut Cursor<'_>) -> Parsed<(Syntax, Syntax)> {
    let key = whole(cursor)?;
    if !take(cursor, ":") {
        let at = place(cursor);
        return wrong(at..at, "`:` and a value are missing behind the key, as in {\"x\": \"int64\"}");
    }
    Ok((key, whole(cursor)?))
}

/// Reads what stands between brackets, with commas between, to the closing bracket.
fn items<T>(
    cursor: &mut Cursor<'_>,
    open: char,
    start: usize,
    mut item: impl FnMut(&mut Cursor<'_>) -> Parsed<T>,
) -> Parsed<Vec<T>> {
    let close = match open {
        '(' => ")",
        '[' => "]",
        _ => "}",
    };
    let mut read = Vec::new();
    while !take(cursor, close) {
        if rest(cursor).is_empty() {
            return wrong(start..start + 1, format!("`{close}` is missing for this `{open}`"));
        }
        read.push(item(cursor)?);
        if take(cursor, ",") {
            continue;
        }
        if take(cursor, close) {
            break;
        }
        let at = place(cursor);
        let Some(next) = rest(cursor).chars().next() else {
            return wrong(start..start + 1, format!("`{close}` is missing for this `{open}`"));
        };
        if let Some(mistake) = known_mistake(rest(cursor), at) {
            return Err(ErrMode::Cut(mistake));
        }
        return wrong(at..at + next.len_utf8(), format!("`,` or `{close}` is missing here"));
    }
    Ok(read)
}

fn postfix<'a>(cursor: &mut Cursor<'a>) -> Parsed<Postfix<Cursor<'a>, Syntax, ErrMode<LineFault>>> {
    blank(cursor);
    Ok(if take(cursor, ".") {
        Postfix(binds::POSTFIX, attribute)
    } else if take(cursor, "(") {
        Postfix(binds::POSTFIX, call)
    } else if take(cursor, "[") {
        Postfix(binds::POSTFIX, index)
    } else {
        return Err(ErrMode::from_input(cursor));
    })
}

fn attribute(cursor: &mut Cursor<'_>, of: Syntax) -> Parsed<Syntax> {
    let Some((name, at)) = take_word(cursor) else {
        let at = place(cursor);
        return wrong(at..at, "the name of a column or of an operation is missing behind the dot");
    };
    let all = of.at.start..at.end;
    grown(SyntaxKind::Attribute(Box::new(of), name.to_owned(), at), all)
}

fn call(cursor: &mut Cursor<'_>, of: Syntax) -> Parsed<Syntax> {
    let open = place(cursor).saturating_sub(1);
    let arguments = nested(cursor, |cursor| items(cursor, '(', open, argument))?;
    let at = of.at.start..place(cursor);
    grown(SyntaxKind::Call(Box::new(of), arguments), at)
}

/// `value` or `name=value`.
fn argument(cursor: &mut Cursor<'_>) -> Parsed<SyntaxArgument> {
    if rest(cursor).starts_with('*') {
        let at = place(cursor);
        return wrong(at..at + 1, "arguments are written one by one");
    }
    let before = cursor.checkpoint();
    if let Some((name, at)) = take_word(cursor) {
        let named = take(cursor, "=") && !rest(cursor).starts_with('=');
        if named {
            return Ok(SyntaxArgument { name: Some((name.to_owned(), at)), value: whole(cursor)? });
        }
    }
    cursor.reset(&before);
    Ok(SyntaxArgument { name: None, value: whole(cursor)? })
}

fn index(cursor: &mut Cursor<'_>, of: Syntax) -> Parsed<Syntax> {
    let open = place(cursor).saturating_sub(1);
    let key = nested(cursor, whole)?;
    blank(cursor);
    if rest(cursor).starts_with(':') {
        let at = place(cursor);
        return wrong(at..at + 1, "rows have no positions to cut at: write df.head(3) or df.tail(3)");
    }
    if let Some(mistake) = known_mistake(rest(cursor), place(cursor)) {
        return Err(ErrMode::Cut(mistake));
    }
    if !take(cursor, "]") {
        return wrong(
            open..open + 1,
            "`]` is missing for this `[`; several columns are written as a list: df[[\"x\", \"y\"]]",
        );
    }
    let at = of.at.start..place(cursor);
    grown(SyntaxKind::Index(Box::new(of), Box::new(key)), at)
}
