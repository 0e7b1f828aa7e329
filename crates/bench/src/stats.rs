//! Medians, spreads and tables.

use std::fmt;

use serde::Serialize;

/// The middle of several measurements and how far they spread.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Of at least one value.
    pub fn of(values: &[f64]) -> Self {
        let mut sorted = values.to_vec();
        sorted.sort_by(f64::total_cmp);
        let at = |index: usize| sorted.get(index).copied().unwrap_or(f64::NAN);
        let middle = sorted.len() / 2;
        let median = if sorted.len() % 2 == 1 {
            at(middle)
        } else {
            f64::midpoint(at(middle.wrapping_sub(1)), at(middle))
        };
        Self { median, min: at(0), max: at(sorted.len().wrapping_sub(1)) }
    }
}

impl fmt::Display for Spread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let digits = if self.median < 100.0 { 2 } else { 0 };
        write!(f, "{:.digits$} ({:.digits$}–{:.digits$})", self.median, self.min, self.max)
    }
}

/// Two sides measured in turn: what each reached, and the ratio round by round.
#[derive(Debug, Serialize)]
pub struct Pairing {
    pub what: String,
    pub ours: Spread,
    pub theirs: Spread,
    pub ratio: Spread,
}

/// A table of pairings, in Markdown.
#[derive(Debug, Serialize)]
pub struct Comparison {
    pub ours: &'static str,
    pub theirs: &'static str,
    pub rounds: usize,
    pub pairings: Vec<Pairing>,
    pub notes: Vec<String>,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, rounds, .. } = self;
        writeln!(f, "| a second; median (min–max) of {rounds} | {ours} | {theirs} | ratio |")?;
        writeln!(f, "| --- | --- | --- | --- |")?;
        for Pairing { what, ours, theirs, ratio } in &self.pairings {
            writeln!(f, "| {what} | {ours} | {theirs} | {ratio} |")?;
        }
        self.notes.iter().try_for_each(|note| writeln!(f, "\n{note}"))
    }
}

/// Prints a result for a person or, as one JSON object, for a program.
///
/// # Errors
/// If it cannot be written as JSON.
pub fn print(json: bool, result: &(impl fmt::Display + Serialize)) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(result)?);
    } else {
        println!("{result}");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_median_is_in_the_middle() {
        let odd = Spread::of(&[3.0, 1.0, 2.0]);
        assert_eq!((odd.median, odd.min, odd.max), (2.0, 1.0, 3.0));
        assert_eq!(Spread::of(&[4.0, 1.0]).median, 2.5);
        assert_eq!(Spread::of(&[1234.0]).to_string(), "1234 (1234–1234)");
    }
}
