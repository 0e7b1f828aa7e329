//! Computes medians and spreads, and prints tables.

use std::fmt;

use serde::{Deserialize, Serialize};

/// The middle of several measurements and how far they spread.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Spread {
    pub median: f64,
    pub min: f64,
    pub max: f64,
}

impl Spread {
    /// Returns the spread of at least one value.
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

/// Compares our side with others that were measured in turn: what each reached, and the ratios round by round.
#[derive(Debug, Serialize)]
pub struct Pairing {
    pub what: String,
    pub ours: Spread,
    pub theirs: Vec<Spread>,
    pub ratios: Vec<Spread>,
}

impl Pairing {
    /// Returns the comparison of the rates of each round, ours first, then the others.
    pub fn of(what: String, rounds: &[Vec<f64>]) -> Self {
        let column = |rate: &dyn Fn(&[f64]) -> f64| {
            Spread::of(&rounds.iter().map(|rates| rate(rates)).collect::<Vec<_>>())
        };
        let others = 1..rounds.first().map_or(1, Vec::len);
        Self {
            what,
            ours: column(&|rates| rates[0]),
            theirs: others.clone().map(|side| column(&|rates| rates[side])).collect(),
            ratios: others.map(|side| column(&|rates| rates[0] / rates[side])).collect(),
        }
    }
}

/// A table of pairings, in Markdown.
#[derive(Debug, Serialize)]
pub struct ComparisonTable {
    pub ours: &'static str,
    pub theirs: Vec<&'static str>,
    pub rounds: usize,
    pub pairings: Vec<Pairing>,
    pub notes: Vec<String>,
}

impl fmt::Display for ComparisonTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { ours, theirs, rounds, .. } = self;
        let headings: String = theirs.iter().map(|name| format!(" {name} | ratio |")).collect();
        writeln!(f, "| a second; median (min–max) of {rounds} | {ours} |{headings}")?;
        writeln!(f, "| --- | --- |{}", " --- | --- |".repeat(theirs.len()))?;
        for Pairing { what, ours, theirs, ratios } in &self.pairings {
            let columns = theirs.iter().zip(ratios);
            let columns: String = columns.map(|(rate, ratio)| format!(" {rate} | {ratio} |")).collect();
            writeln!(f, "| {what} | {ours} |{columns}")?;
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

    #[test]
    fn each_side_has_its_column() {
        let pairing = Pairing::of("row".to_owned(), &[vec![2.0, 1.0, 4.0], vec![4.0, 4.0, 4.0]]);
        assert_eq!(pairing.ours.median, 3.0);
        assert_eq!(pairing.theirs.iter().map(|side| side.median).collect::<Vec<_>>(), [2.5, 4.0]);
        assert_eq!(pairing.ratios.iter().map(|side| side.median).collect::<Vec<_>>(), [1.5, 0.75]);
        let comparison = ComparisonTable {
            ours: "a",
            theirs: vec!["b", "c"],
            rounds: 2,
            pairings: vec![pairing],
            notes: vec![],
        };
        let table = comparison.to_string();
        assert!(table.lines().all(|line| line.matches('|').count() == 7), "{table}");
    }
}
