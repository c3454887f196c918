//! Which pictures are drawn of a report.

use std::error::Error;

use proactor_bench::rows::Row;
use proactor_bench::servers::{ANSWERS_UNREAD, BASE};

use crate::chart::{self, Bar, Kind, Panel};
use crate::parts::Part;
use crate::saved::Report;

/// A picture: a panel for each case of one metric.
struct Picture {
    name: &'static str,
    title: &'static str,
    part: Part,
    metric: &'static str,
    /// Whether to draw what is over the base, and not the values themselves.
    over_base: bool,
}

const PICTURES: &[Picture] = &[
    Picture {
        name: "echo",
        title: "Echo, one server thread: processor time of the server per request, over epoll by hand",
        part: Part::Echo,
        metric: "cpu",
        over_base: true,
    },
    Picture {
        name: "pools",
        title: "Echo, two server threads: requests per second, over epoll by hand with two threads",
        part: Part::Pools,
        metric: "rate",
        over_base: true,
    },
    Picture {
        name: "dispatch",
        title: "Dispatch: time per handler until the last has run, nanoseconds",
        part: Part::Dispatch,
        metric: "time",
        over_base: false,
    },
    Picture {
        name: "wake",
        title: "Dispatch: waking an idle pool, nanoseconds until the handler runs, median",
        part: Part::Dispatch,
        metric: "wake",
        over_base: false,
    },
    Picture {
        name: "timers-arm",
        title: "Timers: time to arm and cancel one, over tokio",
        part: Part::Timers,
        metric: "arm and cancel",
        over_base: true,
    },
    Picture {
        name: "timers",
        title: "Timers: processor time of one that expires, over tokio",
        part: Part::Timers,
        metric: "cpu",
        over_base: true,
    },
    Picture {
        name: "idle",
        title: "Idle connections: memory of the server",
        part: Part::Idle,
        metric: "resident",
        over_base: false,
    },
    Picture {
        name: "http",
        title: "HTTP, one hyper service: requests per second, over tokio's runtime with as many threads",
        part: Part::Http,
        metric: "rate",
        over_base: true,
    },
    Picture {
        name: "redis",
        title: "redis-benchmark, 50 connections: requests per second, over redis-server",
        part: Part::Redis,
        metric: "rate",
        over_base: true,
    },
];

/// Names and SVG of all that there are figures for.
pub(crate) fn of(report: &Report) -> Result<Vec<(String, String)>, Box<dyn Error>> {
    let mut drawn = Vec::new();
    for picture in PICTURES {
        let rows = report.rows(picture.part).iter();
        let rows = Vec::from_iter(rows.filter(|row| row.metric == picture.metric));
        let panels = picture.panels(&rows);
        if !panels.is_empty() {
            let svg = chart::draw(picture.title, &panels)?;
            drawn.push((picture.name.to_owned(), svg));
        }
    }
    Ok(drawn)
}

impl Picture {
    fn panels(&self, rows: &[&Row]) -> Vec<Panel> {
        let mut panels: Vec<Panel> = Vec::new();
        for row in rows {
            let spread = match self.over_base {
                true => row.ratio,
                false => Some(row.value),
            };
            let Some(spread) = spread else { continue };
            let bar = Bar {
                name: row.label(),
                kind: kind(row),
                spread,
            };
            let title = match self.over_base {
                true => row.case.clone(),
                false => format!("{} ({})", row.case, row.unit),
            };
            match panels.iter_mut().find(|panel| panel.title == title) {
                Some(panel) => panel.bars.push(bar),
                None => panels.push(Panel {
                    title,
                    bars: vec![bar],
                    limit: self.over_base.then_some(1.0),
                }),
            }
        }
        for panel in &mut panels {
            let bars = &mut panel.bars;
            bars.sort_by(|a, b| a.spread.median.total_cmp(&b.spread.median));
            if self.metric == "rate" {
                bars.reverse(); // the best is on top
            }
        }
        panels
    }
}

fn kind(row: &Row) -> Kind {
    match row.peer.as_str() {
        BASE | ANSWERS_UNREAD => Kind::Base,
        peer if peer.starts_with("proactor") => Kind::Ours,
        _ => Kind::Peer,
    }
}
