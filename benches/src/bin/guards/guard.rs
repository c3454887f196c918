//! What is guarded, and how each is measured.

use std::fmt;
use std::path::{Path, PathBuf};

use proactor::Strategy;

use crate::clients::Speaks;
use crate::count;
use crate::idle;
use crate::posts::Shape;
use crate::workshop::Workshop;

/// One figure that has a ceiling.
#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) struct Guard {
    pub(crate) what: What,
    pub(crate) strategy: Strategy,
    pub(crate) threads: u16,
}

#[derive(Clone, Copy, PartialEq, Debug)]
pub(crate) enum What {
    /// User-space instructions of the echo server for each request.
    EchoInstructions { connections: usize },
    /// The same with 64 connections, by a read and a write that set each other.
    PairInstructions,
    /// User-space instructions of the HTTP server for each request, with 64 connections.
    HttpInstructions,
    /// User-space instructions for a handler: to post it, and to run it.
    PostInstructions(Shape),
    /// System calls of the echo server for each request.
    EchoCalls { connections: usize },
    /// Resident bytes of the echo server for each connection that is idle.
    IdleBytes,
}

impl What {
    /// What its server does with what it is sent.
    pub(crate) fn speaks(self) -> Speaks {
        match self {
            Self::HttpInstructions => Speaks::Http,
            _ => Speaks::Echo,
        }
    }

    /// What its server is told besides.
    pub(crate) fn arguments(self) -> &'static [&'static str] {
        match self {
            Self::PairInstructions => &["--pairs"],
            _ => &[],
        }
    }

    /// Whether it is a matter of callgrind.
    pub(crate) fn is_instructions(self) -> bool {
        !matches!(self, Self::EchoCalls { .. } | Self::IdleBytes)
    }
}

/// How much above a figure `--lower` sets its ceiling: what differs between two runs and between two machines.
const ROOM: f64 = 0.03;
/// Two threads share the requests now so, now so.
const ROOM_OF_TWO: f64 = 0.1;

impl Guard {
    pub(crate) fn all() -> Vec<Self> {
        let each = Strategy::ALL.map(|strategy| (strategy, 1));
        let pools = [Strategy::LeaderFollowers, Strategy::WorkStealing].map(|pool| (pool, 2));
        let mut all = Vec::new();
        let mut add = |what: What, setups: &[(Strategy, u16)]| {
            all.extend(setups.iter().map(|&(strategy, threads)| Self {
                what,
                strategy,
                threads,
            }));
        };
        for connections in [1, 64] {
            add(What::EchoInstructions { connections }, &each);
        }
        add(What::PairInstructions, &each);
        add(What::HttpInstructions, &each);
        for shape in [Shape::Post, Shape::Tree, Shape::Strand] {
            add(What::PostInstructions(shape), &each);
        }
        for connections in [1, 64] {
            add(What::EchoCalls { connections }, &each);
            add(What::EchoCalls { connections }, &pools);
        }
        add(What::IdleBytes, &each);
        all
    }

    /// The figure, and how to look at what it is made of.
    pub(crate) fn measure(self, workshop: &Workshop) -> Result<(f64, String), String> {
        let kept = workshop.keep(&self.to_string().replace('/', "-"));
        let measured = match self.what {
            What::EchoInstructions { connections } => {
                count::request_instructions(workshop, self, connections, &kept)
            }
            What::PairInstructions | What::HttpInstructions => {
                count::request_instructions(workshop, self, 64, &kept)
            }
            What::PostInstructions(shape) => count::post_instructions(self, shape, &kept),
            What::EchoCalls { connections } => {
                count::echo_calls(workshop, self, connections, &kept)
            }
            What::IdleBytes => idle::bytes(workshop, self, &kept),
        };
        let figure = measured.map_err(|error| format!("{self}: {error}"))?;
        Ok((figure, self.look_at(&kept)))
    }

    fn look_at(self, kept: &Path) -> String {
        let show = |kept: PathBuf| kept.display().to_string();
        match self.what {
            What::EchoCalls { .. } => format!("cat {}", show(kept.with_extension("long"))),
            What::IdleBytes => format!(
                "diff {} {}",
                show(kept.with_extension("before")),
                show(kept.with_extension("after"))
            ),
            _ => format!("callgrind_annotate {}", show(kept.with_extension("long"))),
        }
    }

    pub(crate) fn unit(self) -> &'static str {
        match self.what {
            What::PostInstructions(_) => "instructions a handler",
            What::EchoCalls { .. } => "system calls a request",
            What::IdleBytes => "bytes a connection",
            _ => "instructions a request",
        }
    }

    /// A figure as it is written: calls are few, and their fractions count.
    pub(crate) fn write(self, figure: f64) -> String {
        match self.what {
            What::EchoCalls { .. } => format!("{figure:.2}"),
            _ => format!("{figure:.0}"),
        }
    }

    /// The ceiling that suits a figure.
    pub(crate) fn ceiling_for(self, figure: f64) -> f64 {
        let room = if self.threads > 1 { ROOM_OF_TWO } else { ROOM };
        let steps = match self.what {
            What::EchoCalls { .. } => 100.0,
            _ => 1.0,
        };
        (figure * (1.0 + room) * steps).ceil() / steps
    }
}

/// Its name, as on the command line and in the file of ceilings.
impl fmt::Display for Guard {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.what {
            What::EchoInstructions { connections } => {
                write!(f, "instructions/echo-{connections}")?;
            }
            What::PairInstructions => write!(f, "instructions/echo-64-pairs")?,
            What::HttpInstructions => write!(f, "instructions/http-64")?,
            What::PostInstructions(shape) => write!(f, "instructions/{}", shape.name())?,
            What::EchoCalls { connections } => write!(f, "calls/echo-{connections}")?,
            What::IdleBytes => write!(f, "bytes/idle")?,
        }
        write!(f, "/{}-{}", self.strategy, self.threads)
    }
}

/// Those whose name contains one of the words; all, if there is no word.
pub(crate) fn chosen(mut guards: Vec<Guard>, words: &[String]) -> Result<Vec<Guard>, String> {
    let names: Vec<String> = guards.iter().map(Guard::to_string).collect();
    let nothing = |word: &&String| !names.iter().any(|name| name.contains(word.as_str()));
    if let Some(word) = words.iter().find(nothing) {
        return Err(format!("no guard's name contains `{word}`: see --list"));
    }
    guards.retain(|guard| {
        let name = guard.to_string();
        words.is_empty() || words.iter().any(|word| name.contains(word.as_str()))
    });
    Ok(guards)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_choose_guards_and_a_word_that_chooses_none_is_told() {
        let names = |words: &[&str]| {
            let words: Vec<String> = words.iter().map(|word| (*word).to_owned()).collect();
            chosen(Guard::all(), &words).map(|guards| guards.len())
        };
        assert_eq!(names(&[]), Ok(Guard::all().len()));
        assert_eq!(names(&["calls/echo-64/single"]), Ok(1));
        assert_eq!(names(&["bytes", "instructions/post"]), Ok(6));
        let error = names(&["bytes", "nothing"]).unwrap_err();
        assert!(error.contains("`nothing`"), "{error}");
    }

    #[test]
    fn a_ceiling_is_a_little_above_its_figure() {
        let guards = Guard::all();
        let of = |name: &str| *guards.iter().find(|one| one.to_string() == name).unwrap();
        let calls = of("calls/echo-64/single-1");
        assert_eq!(calls.write(calls.ceiling_for(2.0)), "2.06");
        let instructions = of("instructions/echo-64/single-1");
        assert_eq!(instructions.write(instructions.ceiling_for(400.3)), "413");
    }
}
