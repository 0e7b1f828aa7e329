//! The sentences of the picture.

use std::time::Duration;

use super::rows::percent;
use super::view::TopView;
use crate::verdict;

/// Returns what a person wants to know first.
pub fn verdict(view: &TopView) -> String {
    match (&view.trouble, &view.newest) {
        (Some(_), _) => format!("sin conexión con {}; reintenta", view.headnode),
        (None, Some((_, status))) => verdict::of(status),
        (None, None) => format!("se conecta a {}", view.headnode),
    }
}

/// Returns the totals of the newest answer, and the rates.
pub fn totals(view: &TopView) -> String {
    let Some((_, status)) = &view.newest else { return String::new() };
    let mut parts = vec![format!("{} mensajes", status.messages)];
    parts.extend(view.messages_per_second().map(|rate| format!("{rate:.1} mensajes/s")));
    parts.push(format!("réplicas {}", status.replicas));
    parts.push(format!("ronda {}", status.round));
    parts.extend(view.fair_share().map(|share| format!("reparto justo {}", percent(share))));
    parts.join(", ")
}

/// Returns a duration as people say it.
pub fn ago(age: Duration) -> String {
    match age.as_secs() {
        seconds @ 0..120 => format!("{seconds} s"),
        seconds => format!("{} min", seconds / 60),
    }
}

/// Breaks a text into lines of at most `width` columns, at spaces where there are any.
pub fn wrapped(text: &str, width: usize) -> Vec<String> {
    use unicode_width::UnicodeWidthStr as _;
    let mut lines: Vec<String> = Vec::new();
    for word in text.split(' ') {
        match lines.last_mut() {
            Some(line) if line.width() + 1 + word.width() <= width => {
                line.push(' ');
                line.push_str(word);
            }
            _ => lines.push(word.to_owned()),
        }
    }
    lines
}
