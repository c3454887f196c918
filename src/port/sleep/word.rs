//! The sleepers' word: what stands where in it, and how it reads.

use crate::sync::mutant;

pub(super) const SEATED: u64 = 1;
pub(super) const PARKED: u64 = 1 << 4;
pub(super) const SEARCHING: u64 = 1 << 15;
pub(super) const RUNG: u64 = 1 << 26;
pub(super) const WATCHED: u64 = 1 << 27;
/// A foreign event loop waits on the port's descriptor: as if somebody sat for ever.
pub(super) const FOREIGN: u64 = 1 << 28;
/// How many of those who sit only look, and are awake.
pub(super) const LOOKING: u64 = 1 << 29;
/// There is something to sit for; from then on for ever.
pub(super) const WANTED: u64 = 1 << 56;
/// Where the word says who has each seat: a worker's index and 1, and whether it is called.
pub(super) const SITTERS: [u32; 2] = [32, 44];
pub(super) const WHO: u64 = 0x7ff;
pub(super) const CALLED: u64 = 0x800;
/// All that the word says of who sits; nothing of it is set while nobody does.
pub(super) const SEATS: u64 =
    (PARKED - SEATED) | (WHO | CALLED) << SITTERS[0] | (WHO | CALLED) << SITTERS[1];

/// Somebody could be woken.
pub(super) const ASLEEP: u64 = (PARKED * 0x800 - SEATED) | FOREIGN;
/// Somebody was, and has not yet found anything.
pub(super) const COMING: u64 = (SEARCHING * 0x800 - SEARCHING) | RUNG;

pub(super) const fn seated(word: u64) -> u64 {
    word & 0xf
}

/// A worker as `SITTERS` has it; who is none is not named there.
pub(super) const fn name(who: Option<usize>) -> u64 {
    match who {
        Some(index) => index as u64 + 1,
        None => 0,
    }
}

/// Where the word has `name`, if that sits.
pub(super) fn seat_of(word: u64, name: u64) -> Option<u32> {
    let is_there = |&seat: &u32| name > 0 && word >> seat & WHO == name;
    SITTERS.into_iter().find(is_there)
}

/// Whether somebody who sits is called, and has not yet risen.
pub(super) fn calls(word: u64) -> bool {
    SITTERS.iter().any(|seat| word >> seat & CALLED != 0)
}

/// The word when `name` has sat down, too.
pub(super) fn with(word: u64, name: u64) -> u64 {
    let is_free = |&seat: &u32| word >> seat & WHO == 0;
    let seat = SITTERS.into_iter().find(is_free);
    (word | seat.map_or(0, |seat| name << seat)) + SEATED
}

/// The word when `name` has risen.
pub(super) fn without(word: u64, name: u64) -> u64 {
    let kept = mutant("call-kept");
    let risen = |seat| (WHO | if kept { 0 } else { CALLED }) << seat;
    (word & !seat_of(word, name).map_or(0, risen)) - SEATED
}

/// Whether there is anybody to ring the bell for. Who looks is awake, and looks for work before it sleeps.
pub(super) fn hears(word: u64) -> bool {
    let looking = if mutant("rung-for-a-look") {
        0
    } else {
        looking(word)
    };
    seated(word) > looking || word & FOREIGN != 0
}

pub(super) const fn looking(word: u64) -> u64 {
    (word / LOOKING) & 7
}

pub(super) const fn parked(word: u64) -> u64 {
    (word >> 4) & 0x7ff
}

pub(super) const fn searching(word: u64) -> u64 {
    (word >> 15) & 0x7ff
}

/// Whether one of those who are parked is to sit.
pub(super) const fn lacks_sitter(word: u64) -> bool {
    word & WANTED != 0 && seated(word) == 0 && parked(word) > 0
}
