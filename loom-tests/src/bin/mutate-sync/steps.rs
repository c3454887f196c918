//! The vocabulary: which calls access an atomic, which wake somebody, and what an ordering weakens to.

use std::fmt;
use std::str::FromStr;

/// What a call that wakes gives back, and so what stands in its place when it is left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Returns {
    Nothing,
    /// Whether somebody was woken, or is to be: `false`.
    Bool,
    /// The argument at that place.
    Argument(usize),
}

/// What notifies, wakes, promotes, or hands on a wake-up that others rely on. A name that is added here is looked for
/// everywhere.
const WAKERS: &[(&str, Returns)] = &[
    // Condition variables.
    ("notify_one", Returns::Nothing),
    ("notify_all", Returns::Nothing),
    // The backend's bell and its timer.
    ("notify", Returns::Nothing),
    ("set_timer", Returns::Nothing),
    ("rearm", Returns::Nothing),
    // Sleep and wake.
    ("announce", Returns::Nothing),
    ("found", Returns::Bool),
    ("tell", Returns::Nothing),
    ("unpark_one", Returns::Bool),
    ("wake_all", Returns::Nothing),
    ("wake_one", Returns::Nothing),
    ("wake_slow", Returns::Nothing),
    // Seats and promotion.
    ("appoint", Returns::Nothing),
    ("end_watch", Returns::Nothing),
    ("hand_over", Returns::Nothing),
    ("leave", Returns::Argument(1)),
    ("pass_on", Returns::Nothing),
    ("promote", Returns::Nothing),
    // The end of a run, and guests.
    ("call_guests", Returns::Nothing),
    ("tell_all", Returns::Nothing),
];

/// What a call of that name returns, if it wakes.
pub(crate) fn returns(name: &str) -> Option<Returns> {
    let entry = WAKERS.iter().find(|(waker, _)| *waker == name)?;
    Some(entry.1)
}

/// What an ordering orders.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Access {
    Load,
    Store,
    /// A read-modify-write.
    Change,
    Success,
    Failure,
    Fence,
    /// Kept in a variable, or handed on.
    Unknown,
}

impl Access {
    /// Which of a call's two orderings it is.
    pub(crate) fn part(self) -> &'static str {
        match self {
            Self::Success => " success",
            Self::Failure => " failure",
            _ => "",
        }
    }
}

/// What each argument of a fence, or of an atomic's method, orders.
pub(crate) fn access(method: &str) -> Option<&'static [Option<Access>]> {
    Some(match method {
        "fence" => &[Some(Access::Fence)],
        "load" => &[Some(Access::Load)],
        "store" => &[None, Some(Access::Store)],
        "swap" | "fetch_add" | "fetch_sub" | "fetch_and" | "fetch_nand" | "fetch_or"
        | "fetch_xor" | "fetch_max" | "fetch_min" => &[None, Some(Access::Change)],
        "compare_exchange" | "compare_exchange_weak" => {
            &[None, None, Some(Access::Success), Some(Access::Failure)]
        }
        "fetch_update" => &[Some(Access::Success), Some(Access::Failure)],
        _ => return None,
    })
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Strength {
    Relaxed,
    Acquire,
    Release,
    AcqRel,
    SeqCst,
}

impl FromStr for Strength {
    type Err = ();

    fn from_str(name: &str) -> Result<Self, ()> {
        Ok(match name {
            "Relaxed" => Self::Relaxed,
            "Acquire" => Self::Acquire,
            "Release" => Self::Release,
            "AcqRel" => Self::AcqRel,
            "SeqCst" => Self::SeqCst,
            _ => return Err(()),
        })
    }
}

impl fmt::Display for Strength {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// Whatever is one step weaker, and still means something there: a relaxed fence is none, and is left out instead.
pub(crate) fn weaker(access: Access, strength: Strength) -> &'static [Strength] {
    match (strength, access) {
        (Strength::SeqCst, Access::Load | Access::Failure) => &[Strength::Acquire],
        (Strength::SeqCst, Access::Store) => &[Strength::Release],
        (Strength::SeqCst, Access::Change | Access::Success | Access::Fence) => &[Strength::AcqRel],
        (Strength::AcqRel, _) => &[Strength::Acquire, Strength::Release],
        (Strength::Acquire | Strength::Release, Access::Fence) => &[],
        (Strength::Acquire | Strength::Release, _) => &[Strength::Relaxed],
        (Strength::SeqCst, Access::Unknown) | (Strength::Relaxed, _) => &[],
    }
}

/// The first name of a step among the words of `tokens`, which are set apart by spaces.
pub(crate) fn mentions(tokens: &str) -> Option<&str> {
    tokens.split_whitespace().find(|word| {
        let strong = word
            .parse::<Strength>()
            .is_ok_and(|s| s != Strength::Relaxed);
        strong || *word == "fence" || returns(word).is_some()
    })
}
