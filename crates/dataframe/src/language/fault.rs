//! What is wrong with a line, and where.

use std::ops::Range;

use unicode_width::UnicodeWidthStr as _;

/// A part of a line that is wrong, and what would be right.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct LineFault {
    /// The part, in bytes from the beginning of the line.
    pub at: Range<usize>,
    /// What is wrong and what would be right.
    pub message: String,
}

impl LineFault {
    /// Returns a fault of this part of the line.
    pub fn new(at: Range<usize>, message: impl Into<String>) -> Self {
        Self { at, message: message.into() }
    }

    /// Shows the line, carets below the part that is wrong, and the message.
    #[must_use]
    pub fn shown_in(&self, line: &str) -> String {
        let start = line.floor_char_boundary(self.at.start);
        let first = line[..start].rfind('\n').map_or(0, |newline| newline + 1);
        let last = line[start..].find('\n').map_or(line.len(), |newline| start + newline);
        let end = line.ceil_char_boundary(self.at.end).clamp(start, last);
        let before = printable(&line[first..start]).width();
        let carets = printable(&line[start..end]).width().max(1);
        format!(
            "  {}\n  {}{}\n{}",
            printable(&line[first..last]),
            " ".repeat(before),
            "^".repeat(carets),
            self.message
        )
    }
}

/// A terminal acts on no character of the result, and each character keeps its place.
fn printable(text: &str) -> String {
    text.chars().map(|character| if character.is_control() { ' ' } else { character }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn carets_stand_below_the_part() {
        let line = "día[\"ñ\"].foo(3)";
        let start = line.find("foo").unwrap();
        let fault = LineFault::new(start..start + 3, "there is no `foo`");
        assert_eq!(fault.shown_in(line), "  día[\"ñ\"].foo(3)\n           ^^^\nthere is no `foo`");
    }

    #[test]
    fn the_line_of_a_text_of_several_is_shown() {
        let line = "df.agg(\n  1 +,\n)";
        let start = line.find(',').unwrap();
        let fault = LineFault::new(start..start, "a number is missing");
        assert_eq!(fault.shown_in(line), "    1 +,\n       ^\na number is missing");
    }

    #[test]
    fn any_place_can_be_shown() {
        for (start, end) in [(0, 0), (1, 2), (3, 9), (90, 100)] {
            assert!(LineFault::new(start..end, "wrong").shown_in("ñ日\u{1b}\nñ").ends_with("^\nwrong"));
        }
    }
}
