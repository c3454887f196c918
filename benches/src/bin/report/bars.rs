//! What is to be reached, and whether it was.

use proactor_bench::rows::Row;
use proactor_bench::servers::ANSWERS_UNREAD;
use proactor_bench::table::short;

use crate::parts::{ALONE, Part};
use crate::saved::Report;

/// A bar, and what was measured of it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Bar {
    pub(crate) what: String,
    pub(crate) limit: Limit,
    /// None, if it was not measured.
    pub(crate) figure: Option<f64>,
}

/// What is to be reached.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Limit {
    AtMost(f64),
    AtLeast(f64),
    /// Nothing: it is shown beside what explains it.
    Beside(String),
}

impl Bar {
    pub(crate) fn verdict(&self) -> &str {
        // What is written has two digits behind the point, and that is how far the bars go.
        match (self.figure.map(round), &self.limit) {
            (None, _) => "not measured",
            (_, Limit::Beside(what)) => what,
            (Some(figure), Limit::AtMost(most)) if figure <= *most => "reached",
            (Some(figure), Limit::AtLeast(least)) if figure >= *least => "reached",
            _ => "missed",
        }
    }

    pub(crate) fn cells(&self) -> Vec<String> {
        vec![
            self.what.clone(),
            match &self.limit {
                Limit::AtMost(most) => format!("{most}"),
                Limit::AtLeast(least) => format!("at least {least}"),
                Limit::Beside(_) => "-".to_owned(),
            },
            self.figure.map_or_else(|| "-".into(), short),
            self.verdict().to_owned(),
        ]
    }
}

fn round(figure: f64) -> f64 {
    (figure * 100.0).round() / 100.0
}

/// Our peers' names, with what a table calls them.
pub(crate) static STRATEGIES: [(&str, &str); 3] = [
    ("proactor-single", "single"),
    ("proactor-leader-followers", "leader/followers"),
    ("proactor-work-stealing", "work stealing"),
];

/// All of them, in the order of the parts.
pub(crate) fn all(report: &Report) -> Vec<Bar> {
    let figures = Figures(report);
    let mut bars = Vec::new();
    echo_with_one_thread(&figures, &mut bars);
    echo_with_two_threads(&figures, &mut bars);
    dispatch(&figures, &mut bars);
    timers(&figures, &mut bars);
    idle(&figures, &mut bars);
    http(&figures, &mut bars);
    redis(&figures, &mut bars);
    counted(&figures, &mut bars);
    bars
}

fn echo_with_one_thread(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    let cases = [
        ("1 connection", 1.03, 1.03),
        ("64 connections", 1.01, 1.01),
        ("1000 connections", 1.03, 1.03),
        ("64 connections, 16 KiB", 0.92, 0.95),
        ("64 connections, pipeline 16", 1.0, 1.0),
    ];
    for (case, single, pools) in cases {
        for (peer, name) in STRATEGIES {
            bars.push(Bar {
                what: format!("echo, {case}: processor time over epoll by hand, {name}"),
                limit: Limit::AtMost(if name == "single" { single } else { pools }),
                figure: figures.ratio(Part::Echo, case, "cpu", (peer, 1)),
            });
        }
    }
}

fn echo_with_two_threads(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    for (peer, name) in &STRATEGIES[1..] {
        let alone = format!("1 connection{ALONE}");
        let cost = |threads| figures.value(Part::Pools, &alone, "cpu", (peer, threads));
        bars.push(Bar {
            what: format!("echo, 1 connection: processor time of 2 threads over 1, {name}"),
            limit: Limit::AtMost(1.05),
            figure: quotient(cost(2), cost(1)),
        });
        for case in ["64 connections", "1000 connections"] {
            for theirs in ["tokio-multi", "asio"] {
                let rate = |peer| figures.value(Part::Pools, case, "rate", (peer, 2));
                bars.push(Bar {
                    what: format!("echo, {case}, 2 threads: requests/s of {theirs} over {name}"),
                    limit: Limit::AtMost(1.0),
                    figure: quotient(rate(theirs), rate(peer)),
                });
            }
        }
    }
}

fn counted(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    let cases = [
        ("instructions/echo-1", "user instructions", 480.0, 580.0),
        ("instructions/echo-64", "user instructions", 420.0, 520.0),
        ("calls/echo-1", "system calls", 3.0, 3.0),
        ("calls/echo-64", "system calls", 2.1, 2.1),
        ("bytes/idle", "resident bytes of echo_server", 300.0, 300.0),
    ];
    for (case, what, single, pools) in cases {
        let connections = match case.rsplit_once('-') {
            Some((_, "1")) => ", 1 connection: each request's".to_owned(),
            Some((_, many)) => format!(", {many} connections: each request's"),
            None => ", an idle connection's".to_owned(),
        };
        for (peer, name) in STRATEGIES {
            let metric = case.split('/').next().unwrap_or(case);
            bars.push(Bar {
                what: format!("echo{connections} {what}, {name}"),
                limit: Limit::AtMost(if name == "single" { single } else { pools }),
                figure: figures.value(Part::Guards, case, metric, (peer, 1)),
            });
        }
    }
}

fn dispatch(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    let (_, stealing) = STRATEGIES[2];
    for (threads, at_most) in [(1, 0.75), (2, 0.2)] {
        let who = ("proactor-work-stealing", threads);
        bars.push(Bar {
            what: format!("tree, {stealing} x{threads}: time over rayon's"),
            limit: Limit::AtMost(at_most),
            figure: figures.ratio(Part::Dispatch, "tree", "time", who),
        });
    }
    let tree = |threads| {
        let who = ("proactor-work-stealing", threads);
        figures.value(Part::Dispatch, "tree", "time", who)
    };
    bars.push(Bar {
        what: format!("tree, {stealing}: time of 2 workers over 1"),
        limit: Limit::AtMost(1.0),
        figure: quotient(tree(2), tree(1)),
    });
    for (threads, at_most) in [(1, 1.05), (2, 0.8)] {
        for (peer, name) in strategies(threads) {
            bars.push(Bar {
                what: format!("post, {name} x{threads}: time over crossbeam-channel's"),
                limit: Limit::AtMost(at_most),
                figure: figures.ratio(Part::Dispatch, "post", "time", (peer, threads)),
            });
        }
    }
    spawned(figures, bars);
    let beside_the_best = [
        ("1 strand", "time", 1, 1.0),
        ("1 strand", "time", 2, 1.0),
        ("64 strands", "time", 2, 1.1),
        ("wake", "wake", 1, 1.1),
        ("wake", "wake", 2, 1.1),
    ];
    for (case, metric, threads, at_most) in beside_the_best {
        let best = figures.best_peer(case, metric, threads);
        for (peer, name) in strategies(threads) {
            let ours = figures.value(Part::Dispatch, case, metric, (peer, threads));
            bars.push(Bar {
                what: format!("{case}, {name} x{threads}: time over the best peer's"),
                limit: Limit::AtMost(at_most),
                figure: quotient(ours, best),
            });
        }
    }
}

/// A future that awaits calls, beside one of tokio's that yields.
fn spawned(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    for (theirs, threads) in [("tokio-current", 1), ("tokio", 1), ("tokio", 2)] {
        let time = |peer| figures.value(Part::Dispatch, "spawn", "time", (peer, threads));
        for (peer, name) in strategies(threads) {
            bars.push(Bar {
                what: format!("spawn, {name} x{threads}: time over {theirs}'s"),
                limit: Limit::AtMost(1.0),
                figure: quotient(time(peer), time(theirs)),
            });
        }
    }
}

/// Those that can have so many threads.
fn strategies(threads: usize) -> &'static [(&'static str, &'static str)] {
    if threads > 1 {
        &STRATEGIES[1..]
    } else {
        &STRATEGIES
    }
}

fn timers(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    let cases = [
        (
            "cancel",
            "arm and cancel",
            "time to arm and cancel one",
            0.6,
        ),
        ("expire", "cpu", "processor time of one that expires", 0.5),
    ];
    for (case, metric, what, at_most) in cases {
        for (peer, name) in STRATEGIES {
            bars.push(Bar {
                what: format!("timers, {name}: {what}, over tokio's"),
                limit: Limit::AtMost(at_most),
                figure: figures.ratio(Part::Timers, case, metric, (peer, 1)),
            });
        }
    }
}

fn idle(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    for (peer, name) in STRATEGIES {
        bars.push(Bar {
            what: format!("an idle connection's resident bytes, {name}"),
            limit: Limit::AtMost(300.0),
            figure: figures.value(Part::Idle, "10000 connections", "resident", (peer, 1)),
        });
    }
}

fn http(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    for (threads, theirs) in [(1, "tokio-current"), (2, "tokio-multi")] {
        let rate = |peer| figures.value(Part::Http, "64 connections", "rate", (peer, threads));
        for (peer, name) in strategies(threads) {
            bars.push(Bar {
                what: format!(
                    "http, 64 connections: requests/s of {theirs} over {name} x{threads}"
                ),
                limit: Limit::AtMost(1.0),
                figure: quotient(rate(theirs), rate(peer)),
            });
        }
    }
}

fn redis(figures: &Figures<'_>, bars: &mut Vec<Bar>) {
    let (peer, name) = STRATEGIES[2];
    let cases = [
        ("pipeline 1", Some(1.0)),
        ("pipeline 16, 2 client threads", Some(1.2)),
        // The client is what is slow here: a server that reads nothing is hardly faster.
        ("pipeline 16", None),
    ];
    for (case, least) in cases {
        for command in ["GET", "SET"] {
            let case = format!("{command}, {case}");
            let ratio = |who| figures.ratio(Part::Redis, &case, "rate", (who, 2));
            let limit = match (least, ratio(ANSWERS_UNREAD)) {
                (Some(least), _) => Limit::AtLeast(least),
                (None, Some(most)) => {
                    Limit::Beside(format!("{} by who reads nothing", short(most)))
                }
                (None, None) => Limit::Beside("no bar".to_owned()),
            };
            bars.push(Bar {
                what: format!("{case}: requests/s of mini_redis over redis-server, {name} x2"),
                limit,
                figure: ratio(peer),
            });
        }
    }
}

fn quotient(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    Some(ours? / theirs.filter(|theirs| *theirs > 0.0)?)
}

/// Looks figures up.
struct Figures<'a>(&'a Report);

impl Figures<'_> {
    fn row(&self, part: Part, case: &str, metric: &str, who: (&str, usize)) -> Option<&Row> {
        let rows = self.0.rows(part).iter();
        let mut rows = rows.filter(|row| (row.peer.as_str(), row.threads) == who);
        rows.find(|row| row.case == case && row.metric == metric)
    }

    fn value(&self, part: Part, case: &str, metric: &str, who: (&str, usize)) -> Option<f64> {
        Some(self.row(part, case, metric, who)?.value.median)
    }

    fn ratio(&self, part: Part, case: &str, metric: &str, who: (&str, usize)) -> Option<f64> {
        Some(self.row(part, case, metric, who)?.ratio?.median)
    }

    /// The least of the peers' medians in a case of `dispatch`.
    fn best_peer(&self, case: &str, metric: &str, threads: usize) -> Option<f64> {
        let rows = self.0.rows(Part::Dispatch).iter();
        let rows = rows.filter(|row| row.case == case && row.metric == metric);
        let peers = rows.filter(|row| row.threads == threads && !row.peer.starts_with("proactor"));
        peers.map(|row| row.value.median).reduce(f64::min)
    }
}
