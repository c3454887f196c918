//! Tables for people.

use std::io;

use crate::cli::{self, Outcome};
use crate::rows::{self, Metric, Row};
use crate::stats::Spread;

/// Prints a table for each metric, or the rows as JSON, one a line.
///
/// # Errors
///
/// Those of writing JSON to stdout.
pub fn print(rows: &[Row], metrics: &[Metric], json: bool) -> Outcome {
    if json {
        return Ok(rows::write_json(rows, io::stdout().lock())?);
    }
    for Metric { name, unit, about } in metrics {
        let table = matrix(rows, name);
        cli::say(&format!("{name}: {about} ({unit})\n\n{table}"));
    }
    Ok(())
}

/// One line for each peer, one column for each case, of the rows with that metric: the median ratio to the base with its least
/// and most, and the base itself in its unit; where there is no base, the values themselves.
pub fn matrix(rows: &[Row], metric: &str) -> String {
    let rows = Vec::from_iter(rows.iter().filter(|row| row.metric == metric));
    let cases = distinct(rows.iter().map(|row| row.case.clone()));
    let peers = distinct(rows.iter().map(|row| row.label()));
    let mut head = vec![String::new()];
    head.extend(cases.iter().cloned());
    let mut lines = vec![head];
    for peer in peers {
        let cell = |case: &String| {
            let row = rows
                .iter()
                .find(|row| row.label() == peer && row.case == *case);
            row.map_or_else(|| "-".to_owned(), |row| cell_of(row))
        };
        let cells = Vec::from_iter(cases.iter().map(cell));
        lines.push([vec![peer], cells].concat());
    }
    aligned(&lines)
}

fn cell_of(row: &Row) -> String {
    let own = |spread: Spread| spread.min == 1.0 && spread.max == 1.0;
    match row.ratio {
        Some(ratio) if !own(ratio) => {
            let Spread { median, min, max } = ratio;
            format!("{median:.2} ({min:.2}..{max:.2})")
        }
        _ => {
            let Spread { median, min, max } = row.value;
            let [median, min, max] = [median, min, max].map(short);
            format!("{median} ({min}..{max}) {}", row.unit)
        }
    }
}

/// With about three significant digits.
pub fn short(value: f64) -> String {
    match value.abs() {
        1e6.. => format!("{:.2}M", value / 1e6),
        1e5.. => format!("{:.0}k", value / 1e3),
        1e4.. => format!("{:.1}k", value / 1e3),
        100.0.. => format!("{value:.0}"),
        10.0.. => format!("{value:.1}"),
        0.1.. => format!("{value:.2}"),
        _ => format!("{value:.3}"),
    }
}

/// Lines of cells under each other: the first column to the left, the others to the right.
pub fn aligned(lines: &[Vec<String>]) -> String {
    let columns = lines.iter().map(Vec::len).max().unwrap_or(0);
    let width = |column| {
        let cells = lines
            .iter()
            .filter_map(|line: &Vec<String>| line.get(column));
        cells
            .map(|cell: &String| cell.chars().count())
            .max()
            .unwrap_or(0)
    };
    let widths = Vec::from_iter((0..columns).map(width));
    let mut text = String::new();
    for line in lines {
        let mut out = String::new();
        for (column, (cell, &width)) in line.iter().zip(&widths).enumerate() {
            out += &match column {
                0 => format!("{cell:<width$}"),
                _ => format!("  {cell:>width$}"),
            };
        }
        text += out.trim_end();
        text += "\n";
    }
    text
}

/// Each once, in the order in which they come first.
pub fn distinct<T: PartialEq>(items: impl Iterator<Item = T>) -> Vec<T> {
    let mut found = Vec::new();
    for item in items {
        if !found.contains(&item) {
            found.push(item);
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rows::{Metric, Series};

    #[test]
    fn a_matrix_has_peers_down_and_cases_across() {
        const TIME: Metric = Metric::new("time", "ns", "time of one");
        let mut rows = Vec::new();
        for (case, peers) in [("a", &["base", "x"][..]), ("b", &["base"])] {
            let mut series = Series::new("test", case);
            for peer in peers {
                series.add(peer, 1, TIME, peer.len() as f64);
            }
            rows.extend(series.rows("base"));
        }
        let expected = "                         a                     b\n\
                        base  4.00 (4.00..4.00) ns  4.00 (4.00..4.00) ns\n\
                        x        0.25 (0.25..0.25)                     -\n";
        assert_eq!(matrix(&rows, "time"), expected);
        assert_eq!(matrix(&rows, "another"), "\n");
    }
}
