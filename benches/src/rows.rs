//! The rows of a measurement: what is printed as JSON, and what tables and plots are made of.

use std::io::{self, BufRead, Write};

use serde::{Deserialize, Serialize};

use crate::stats::Spread;

/// What was measured of one peer in one case, over all rounds.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// The program: `echo`, `dispatch`, ...
    pub bench: String,
    /// The case within it: `64 connections`, `tree`, ...
    pub case: String,
    /// Who was measured: `proactor-single`, `tokio`, ...
    pub peer: String,
    /// With how many threads.
    pub threads: usize,
    /// What was measured: the name of a [`Metric`].
    pub metric: String,
    /// What the values are counted in; the ratios are bare numbers.
    pub unit: String,
    /// How many rounds the figures are of.
    pub rounds: usize,
    /// The values of the rounds.
    pub value: Spread,
    /// Each round's value over the base's of that round; none where there was no base.
    pub ratio: Option<Spread>,
}

impl Row {
    /// The peer, with its threads where there are several.
    pub fn label(&self) -> String {
        match self.threads {
            0 | 1 => self.peer.clone(),
            threads => format!("{} x{threads}", self.peer),
        }
    }
}

/// Something that is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Metric {
    /// What rows call it.
    pub name: &'static str,
    /// What it is counted in.
    pub unit: &'static str,
    /// What it is, in a few words, for the head of a table.
    pub about: &'static str,
}

impl Metric {
    /// With those three.
    pub const fn new(name: &'static str, unit: &'static str, about: &'static str) -> Self {
        Self { name, unit, about }
    }
}

/// Collects one case's values, round after round.
#[derive(Clone, Debug)]
pub struct Series {
    bench: &'static str,
    case: String,
    entries: Vec<Entry>,
}

#[derive(Clone, Debug)]
struct Entry {
    peer: String,
    threads: usize,
    metric: Metric,
    values: Vec<f64>,
}

impl Series {
    /// Without any values yet.
    pub fn new(bench: &'static str, case: impl Into<String>) -> Self {
        Self {
            bench,
            case: case.into(),
            entries: Vec::new(),
        }
    }

    /// Adds the value of the next round. A round that a peer leaves out is added as NaN, so that its later values meet
    /// the base's of the same rounds.
    pub fn add(&mut self, peer: &str, threads: usize, metric: Metric, value: f64) {
        let same = |entry: &&mut Entry| {
            entry.peer == peer && entry.threads == threads && entry.metric == metric
        };
        match self.entries.iter_mut().find(same) {
            Some(entry) => entry.values.push(value),
            None => self.entries.push(Entry {
                peer: peer.to_owned(),
                threads,
                metric,
                values: vec![value],
            }),
        }
    }

    /// One row for each peer, number of threads and metric, in the order in which they came. The base of the ratios is
    /// `base` with the same number of threads.
    pub fn rows(&self, base: &str) -> Vec<Row> {
        Vec::from_iter(self.entries.iter().filter_map(|entry| {
            let is_base = |other: &&Entry| {
                other.peer == base && other.threads == entry.threads && other.metric == entry.metric
            };
            let base = self.entries.iter().find(is_base);
            Some(Row {
                bench: self.bench.to_owned(),
                case: self.case.clone(),
                peer: entry.peer.clone(),
                threads: entry.threads,
                metric: entry.metric.name.to_owned(),
                unit: entry.metric.unit.to_owned(),
                rounds: entry.values.len(),
                value: Spread::of(&entry.values)?,
                ratio: base.and_then(|base| Spread::of_ratios(&entry.values, &base.values)),
            })
        }))
    }
}

/// Writes rows as JSON, one a line.
///
/// # Errors
///
/// Those of the writer.
pub fn write_json(rows: &[Row], mut to: impl Write) -> io::Result<()> {
    for row in rows {
        serde_json::to_writer(&mut to, row)?;
        to.write_all(b"\n")?;
    }
    to.flush()
}

/// Reads what [`write_json`] wrote.
///
/// # Errors
///
/// Those of the reader; a line that is no row is [`InvalidData`](io::ErrorKind::InvalidData), and the error says which.
pub fn read_json(from: impl BufRead) -> io::Result<Vec<Row>> {
    let mut rows = Vec::new();
    for (index, line) in from.lines().enumerate() {
        let wrong = |error| {
            let text = format!("line {} is no row: {error}", index + 1);
            io::Error::new(io::ErrorKind::InvalidData, text)
        };
        rows.push(serde_json::from_str(&line?).map_err(wrong)?);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIME: Metric = Metric::new("time", "ns", "time of one");

    fn series() -> Series {
        let mut series = Series::new("test", "case");
        for (base, ours, pair) in [(2.0, 1.0, 8.0), (4.0, f64::NAN, 9.0), (8.0, 4.0, 7.0)] {
            series.add("base", 1, TIME, base);
            series.add("ours", 1, TIME, ours);
            series.add("ours", 2, TIME, pair);
        }
        series
    }

    #[test]
    fn rows_hold_ratios_to_the_base_with_as_many_threads() {
        let rows = series().rows("base");
        let ratios = Vec::from_iter(rows.iter().map(|row| row.ratio.map(|ratio| ratio.median)));
        assert_eq!(ratios, [Some(1.0), Some(0.5), None]);
        assert_eq!(rows[1].value.median, 2.5);
        assert_eq!(rows[2].label(), "ours x2");
    }

    #[test]
    fn json_comes_back_as_it_went() {
        let rows = series().rows("base");
        let mut text = Vec::new();
        write_json(&rows, &mut text).unwrap();
        assert_eq!(read_json(text.as_slice()).unwrap(), rows);
        let error = read_json(&b"{}"[..]).unwrap_err();
        assert!(error.to_string().starts_with("line 1 is no row: "));
    }
}
