//! Tables for people, and texts that fit into their columns.

use text::Shown;
use unicode_width::{UnicodeWidthChar as _, UnicodeWidthStr as _};

/// Returns the rows as lines whose columns are aligned on a terminal.
pub fn aligned<const COLUMNS: usize>(rows: &[[String; COLUMNS]]) -> String {
    let widths: [usize; COLUMNS] =
        std::array::from_fn(|column| rows.iter().map(|row| row[column].width()).max().unwrap_or(0));
    let mut table = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.width() + GAP));
        }
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}

/// Spaces between two columns.
pub const GAP: usize = 2;

/// Returns the text as a terminal may show it, in at most `limit` columns.
pub fn cut(text: &str, limit: usize) -> String {
    // Most characters take a column or more, or are shown escaped.
    let end = text.char_indices().nth(4 * limit).map_or(text.len(), |(index, _)| index);
    let shown = Shown(&text[..end]).to_string();
    let mut columns = 0;
    let mut fits = shown.len();
    for (index, c) in shown.char_indices() {
        columns += c.width().unwrap_or(0);
        if columns < limit {
            fits = index + c.len_utf8();
        }
    }
    if columns <= limit && end == text.len() {
        return shown;
    }
    format!("{}…", &shown[..fits])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_text_takes_its_columns_at_most() {
        let exact = "x".repeat(40);
        assert_eq!(cut(&exact, 40), exact);
        assert_eq!(cut(&format!("{exact}x"), 40), format!("{}…", &exact[1..]));
        for long in
            ["漢".repeat(99), "\u{1b}".repeat(99), "a\u{301}".repeat(999), "\u{301}".repeat(65_536 / 2)]
        {
            let cut = cut(&long, 40);
            assert!(cut.width() <= 40 && cut.ends_with('…'), "{cut:?}");
            assert!(cut.len() < 1000, "{}", cut.len());
        }
    }
}
