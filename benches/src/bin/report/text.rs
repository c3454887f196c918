//! The report as text: for a terminal, and for the page.

use proactor_bench::rows::Row;
use proactor_bench::table;

use crate::bars;
use crate::machine::Machine;
use crate::page;
use crate::parts::Part;
use crate::saved::{Measured, Report};

/// All of it.
pub(crate) fn whole(report: &Report) -> String {
    let mut text = machines(report) + "\n\n";
    for measured in &report.parts {
        text += &format!("== {}, {}\n\n", measured.part, made(measured));
        text += &tables(measured);
    }
    let mut lines = vec![head()];
    lines.extend(bars::all(report).iter().map(bars::Bar::cells));
    text + "== bars\n\n" + &table::aligned(&lines)
}

/// The page with the figures of this report in it. What was not measured stays as it was.
pub(crate) fn put(old: &str, report: &Report) -> Result<String, String> {
    let mut new = old.to_owned();
    for measured in &report.parts {
        let text = format!("Made {}.\n\n{}", made(measured), fenced(&tables(measured)));
        new = page::put(&new, &measured.part.to_string(), &text)?;
    }
    let mut lines = vec![head()];
    lines.extend(bars::all(report).iter().map(bars::Bar::cells));
    new = page::put(&new, "bars", &page::table(&lines))?;
    page::put(&new, "machine", &machines(report))
}

fn head() -> Vec<String> {
    ["", "at most, if not said otherwise", "measured", ""]
        .map(str::to_owned)
        .to_vec()
}

fn made(measured: &Measured) -> String {
    let quick = if measured.quick { ", quickly" } else { "" };
    let rounds = measured.rows.iter().map(|row| row.rounds).max();
    let rounds = rounds.filter(|rounds| *rounds > 1);
    let rounds = rounds.map_or_else(String::new, |rounds| format!(", {rounds} rounds"));
    format!("{}{quick}{rounds}", measured.date)
}

/// Each different machine once: all parts have the same, if all were measured at once.
fn machines(report: &Report) -> String {
    let mut seen: Vec<(&Machine, Vec<String>)> = Vec::new();
    for measured in &report.parts {
        let part = measured.part.to_string();
        match seen
            .iter_mut()
            .find(|(machine, _)| **machine == measured.machine)
        {
            Some((_, parts)) => parts.push(part),
            None => seen.push((&measured.machine, vec![part])),
        }
    }
    let described = seen.iter().map(|(machine, parts)| match seen.len() {
        1 => machine.describe(),
        _ => format!("- {}: {}", parts.join(", "), machine.describe()),
    });
    Vec::from_iter(described).join("\n")
}

fn fenced(text: &str) -> String {
    format!("```text\n{}\n```", text.trim_end())
}

/// A table for each metric.
fn tables(measured: &Measured) -> String {
    if measured.part == Part::Guards {
        return counted(&measured.rows);
    }
    let mut text = String::new();
    for metric in table::distinct(measured.rows.iter().map(|row| row.metric.as_str())) {
        let rows = measured.rows.iter().filter(|row| row.metric == metric);
        let rows = Vec::from_iter(rows.cloned());
        let compared = match rows.iter().any(|row| row.ratio.is_some()) {
            true => "; those without a unit: over the base's of the same round",
            false => "",
        };
        let unit = &rows[0].unit;
        text += &format!("{metric}, {unit}, median (least..most){compared}\n");
        text += &table::matrix(&rows, metric);
        text += "\n";
    }
    text
}

/// Who down, what across: counts have no spread.
fn counted(rows: &[Row]) -> String {
    let cases = table::distinct(rows.iter().map(|row| row.case.as_str()));
    let labels = Vec::from_iter(rows.iter().map(Row::label));
    let mut lines = vec![vec![String::new()]];
    lines[0].extend(cases.iter().map(|case| (*case).to_owned()));
    for label in table::distinct(labels.iter().map(String::as_str)) {
        let cell = |case: &&str| {
            let row = rows
                .iter()
                .find(|row| row.label() == label && row.case == *case);
            row.map_or_else(|| "-".to_owned(), |row| table::short(row.value.median))
        };
        let cells = Vec::from_iter(cases.iter().map(cell));
        lines.push([vec![label.to_owned()], cells].concat());
    }
    table::aligned(&lines) + "\n"
}

#[cfg(test)]
mod tests {
    use super::*;
    use proactor_bench::stats::Spread;

    fn row(part: Part, case: &str, peer: &str, figure: f64) -> Row {
        let spread = Spread {
            median: figure,
            min: figure,
            max: figure,
        };
        Row {
            bench: part.to_string(),
            case: case.into(),
            peer: peer.into(),
            threads: 1,
            metric: "cpu".into(),
            unit: "us".into(),
            rounds: 5,
            value: spread,
            ratio: Some(spread),
        }
    }

    fn report(rows: Vec<Row>, part: Part) -> Report {
        let mut report = Report::default();
        report.put(Measured {
            part,
            date: "2030-01-02".into(),
            machine: Machine::look(),
            quick: false,
            rows,
        });
        report
    }

    #[test]
    fn the_page_tells_date_rounds_figures_and_bars() {
        let rows = vec![
            row(Part::Echo, "64 connections", "proactor-single", 1.01),
            row(Part::Echo, "64 connections", "proactor-work-stealing", 1.02),
        ];
        let sections = ["machine", "bars", "echo"];
        let page = sections.map(|name| format!("<!-- report: {name} -->\n<!-- end -->\n"));
        let new = put(&page.concat(), &report(rows, Part::Echo)).unwrap();
        for part in [
            "Made 2030-01-02, 5 rounds.",
            "over epoll by hand, single | 1.01 | 1.01 | reached |",
            "over epoll by hand, work stealing | 1.01 | 1.02 | missed |",
            "over epoll by hand, leader/followers | 1.01 | - | not measured |",
            "rustc 1.",
        ] {
            assert!(new.contains(part), "`{part}` in {new}");
        }
    }

    #[test]
    fn a_part_that_is_measured_again_takes_the_place_of_the_last() {
        let rows = |figure| vec![row(Part::Echo, "64 connections", "proactor-single", figure)];
        let mut all = report(rows(1.5), Part::Echo);
        all.put(report(rows(2.0), Part::Idle).parts.remove(0));
        all.put(report(rows(0.9), Part::Echo).parts.remove(0));
        let medians = |part| Vec::from_iter(all.rows(part).iter().map(|row| row.value.median));
        assert_eq!(
            (medians(Part::Echo), medians(Part::Idle)),
            (vec![0.9], vec![2.0])
        );
    }
}
