//! What the measurements share.
//!
//! A measurement runs its competitors in turn, round after round (A B C A B C ...), so that whatever else the machine does
//! meets them all; [`progress`] shows how far it is. [`Series`](rows::Series) collects what each round gave, and makes it into
//! [`Row`](rows::Row)s: the median, the least and the most, and the ratio to the base of the same round, of which again the
//! median counts. Rows are printed as JSON, one a line, which is how programs here talk to each other, or as a
//! [`table`](table::matrix) for people. [`process`] runs what is measured in a process of its own, pins it to processors,
//! and reads its processor time and its memory; [`servers`] are the echo servers, ours and the peers', and [`load`] their
//! clients; [`case`] runs one case of a bench, and [`example`] builds an example of the library; [`count`] tells that each of many calls ran once, and what it cost; [`cli`] holds the manners of the command lines.
//!
//! ```
//! use proactor_bench::rows::{Metric, Series};
//! use proactor_bench::table;
//!
//! const COST: Metric = Metric::new("cost", "ns", "time of one call");
//! let mut series = Series::new("calls", "direct");
//! for (base, ours) in [(10.0, 9.0), (30.0, 30.0), (11.0, 8.8)] {
//!     series.add("base", 1, COST, base);
//!     series.add("ours", 1, COST, ours);
//! }
//! let rows = series.rows("base");
//! assert_eq!(rows[0].value.median, 11.0);
//! assert_eq!(rows[1].ratio.unwrap().median, 0.9); // of 0.9, 1.0 and 0.8, round by round
//! println!("{}", table::matrix(&rows, COST.name));
//! ```

pub mod case;
pub mod cli;
pub mod count;
pub mod example;
pub mod load;
pub mod process;
pub mod progress;
pub mod rows;
pub mod servers;
pub mod stats;
pub mod table;
