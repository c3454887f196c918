//! Seats, parking, waking and promotion: who waits where, and who is told.
//!
//! One word says how many workers sit (wait in the backend) and which, how many are parked (on a condvar of their own), search (were woken
//! and have not yet found work), whether the bell is rung (the backend was notified and nobody has answered), and whether a
//! parked worker watches the seat. `docs/dispatch-protocols.md` has the protocols ("Seats and promotion", "Sleep and
//! wake", "A call to one worker"), the races and the proofs. The rules in short:
//!
//! 1. Who makes work visible then fences and looks at the word; who sleeps announces itself in the word, fences, and then
//!    looks for work. One of the two sees the other.
//! 2. A waker that sees somebody search, or the bell rung, goes home. Who searches and finds hands the search on if
//!    there is more; who searches in vain is announced as asleep before it looks for the last time, and hands on if that finds.
//! 3. Nobody parks while a seat is free and wanted, as it is once there may be anything to hear of. Who leaves the last seat to
//!    run handlers promotes a parked worker: at once where two may sit, through the watch where only one may.
//! 4. The bell wakes one, any. A worker that is meant itself is called in the word; who hears in its stead rings again, and no
//!    seat is free until it has risen.
//!
//! The word's own accesses are relaxed: it hands over nothing but counts, its read-modify-writes have one order for everybody,
//! and where it is weighed against something else there is a fence or a lock.

mod word;

use std::time::{Duration, Instant};

use crossbeam::utils::CachePadded;

use crate::backend::Backend;
use crate::sync::atomic::{AtomicU64, Ordering, fence};
use crate::sync::{Condvar, Mutex, guess, mutant};
use word::*;

/// How long the seat may stand empty before the watcher takes it: twice this at most.
const WATCH_TICK: Duration = Duration::from_millis(1);
/// After how many ticks in which nothing happened the watcher sleeps untimed.
const QUIET_TICKS: u32 = 8;

#[derive(Debug)]
pub(crate) struct Sleep {
    word: CachePadded<AtomicU64>,
    seats: u64,
    /// See `Backend::promotes_at_once`.
    at_once: bool,
    /// How often the seat was left; the watcher's measure, where there can be one besides who leaves.
    departures: AtomicU64,
    /// Whether there can be one besides a worker.
    counts: bool,
    /// Who is parked, the latest last. Changed together with the count in the word, under this lock.
    waiters: Mutex<Vec<usize>>,
    parkers: Box<[CachePadded<Parker>]>,
}

#[derive(Debug)]
struct Parker {
    token: Mutex<Token>,
    condvar: Condvar,
}

/// What a parked worker is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Nothing,
    /// There may be work: it searches, and is no longer among the waiters.
    Search,
    /// Watch the seat, and stay among the waiters.
    Watch,
}

/// A seat that was taken: the word before, and then.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Taken {
    before: u64,
    then: u64,
}

/// What there is to do for who has left a seat.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stood {
    /// It has answered the bell, and searches.
    pub(crate) searching: bool,
    /// It has heard a bell that was for another who sits.
    pub(crate) for_sitter: bool,
}

/// What a seat is taken for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stay {
    /// To wait, asleep.
    Asleep,
    /// For one look, without waiting.
    Look,
}

impl Stay {
    /// Beside the seat itself.
    const fn mark(self) -> u64 {
        match self {
            Self::Asleep => 0,
            Self::Look => LOOKING,
        }
    }
}

/// How parking ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unparked {
    /// Woken; this worker counts as searching.
    Searching,
    /// Look again: a seat was free, or there was work, or the deadline passed.
    LookAgain,
}

impl Sleep {
    pub(crate) fn new(workers: usize, seats: usize, at_once: bool) -> Self {
        let parker = |_| {
            CachePadded::new(Parker {
                token: Mutex::new(Token::Nothing),
                condvar: Condvar::new(),
            })
        };
        Self {
            word: CachePadded::new(AtomicU64::new(0)),
            seats: seats as u64,
            at_once,
            departures: AtomicU64::new(0),
            // A lone worker has nobody to watch it; but it may itself watch who takes completions by hand.
            counts: !at_once && workers > 1,
            waiters: Mutex::new(Vec::with_capacity(workers)),
            parkers: (0..workers).map(parker).collect(),
        }
    }

    /// A foreign event loop will wait on the port's descriptor; true if that is news. Then the caller looks for work that nobody
    /// was told of.
    pub(crate) fn is_foreign(&self) -> bool {
        if self.word.load(Ordering::Relaxed) & FOREIGN != 0 {
            return false; // As at each turn of that loop but its first.
        }
        let before = self.word.fetch_or(FOREIGN, Ordering::Relaxed);
        self.announce();
        before & FOREIGN == 0
    }

    /// Whether there may be something to hear of for who sits, beside the bell.
    pub(crate) fn is_wanted(&self) -> bool {
        guess(&self.word) & WANTED != 0
    }

    /// There is about to be something to hear of: somebody is to sit.
    pub(crate) fn want(&self) {
        let set = || self.word.fetch_or(WANTED, Ordering::Relaxed) | WANTED;
        if !self.is_wanted() && lacks_sitter(set()) && !mutant("wanted-quietly") {
            self.unpark(None);
        }
    }

    /// Whether no event goes unheard: a thread sits, or there is nothing to hear of.
    pub(crate) fn is_watched(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        seated(word) > 0 || word & WANTED == 0
    }

    /// Whether there is a seat to be had. Not while somebody who sits is called: the bell would not reach that one.
    fn is_free(&self, word: u64) -> bool {
        seated(word) < self.seats && (!calls(word) || mutant("sit-beside-a-call"))
    }

    /// Takes a seat for worker `who`, or for who is none, if one is free. Announced before the caller's last look for work.
    pub(crate) fn sit(&self, who: Option<usize>, stay: Stay) -> Option<Taken> {
        self.sit_in(guess(&self.word), who, stay)
    }

    /// What the word gets where worker `index` is the first that sits, to sleep.
    pub(crate) const fn first_seat(index: usize) -> u64 {
        (name(Some(index)) << SITTERS[0]) + SEATED
    }

    /// As `sit`, of a worker that is to sleep, if sitting is wanted; `first` is its `first_seat`.
    #[inline]
    pub(crate) fn sit_if_wanted(&self, index: usize, first: u64) -> Option<Taken> {
        let before = guess(&self.word);
        if before & (SEATS | WANTED) == WANTED {
            // What `with` makes of it, since nobody sits.
            let then = before | first;
            if self.swap(before, then).is_ok() {
                self.announce();
                return Some(Taken { before, then });
            }
        }
        let wanted = before & WANTED != 0;
        wanted.then(|| self.sit_in(before, Some(index), Stay::Asleep))?
    }

    #[inline(never)]
    fn sit_in(&self, mut word: u64, who: Option<usize>, stay: Stay) -> Option<Taken> {
        while self.is_free(word) || mutant("sit-unasked") {
            let then = with(word, name(who)) + stay.mark();
            match self.swap(word, then) {
                Ok(before) => {
                    self.announce();
                    return Some(Taken { before, then });
                }
                Err(now) => word = now,
            }
        }
        None
    }

    /// Changes the word from what it was, if it is still that.
    #[inline(always)]
    fn swap(&self, from: u64, to: u64) -> Result<u64, u64> {
        self.word
            .compare_exchange_weak(from, to, Ordering::Relaxed, Ordering::Relaxed)
    }

    /// The sleeper's fence: pairs with the one in `wake_one`.
    fn announce(&self) {
        if !mutant("sleep-announce-fence") {
            fence(Ordering::SeqCst);
        }
    }

    /// Leaves the seat that was taken for `who` and `stay`.
    pub(crate) fn stand(&self, who: Option<usize>, stay: Stay, notified: bool) -> Stood {
        let kept = mutant("look-kept");
        let mark = if kept { 0 } else { stay.mark() };
        let mut word = guess(&self.word);
        let stood = loop {
            let searching = notified && word & RUNG != 0;
            let answer = if searching && !mutant("bell-unanswered") {
                SEARCHING.wrapping_sub(RUNG)
            } else {
                0
            };
            let next = (without(word, name(who)) - mark).wrapping_add(answer);
            match self.swap(word, next) {
                Ok(_) => {
                    let for_sitter = notified && calls(next) && !mutant("call-not-passed-on");
                    break Stood {
                        searching,
                        for_sitter,
                    };
                }
                Err(now) => word = now,
            }
        };
        if self.counts || (who.is_none() && !self.at_once) {
            self.departures.fetch_add(1, Ordering::Relaxed);
        }
        stood
    }

    /// Leaves a worker's seat as `stand` does, if the word is as it was when that was taken: nobody else came or went, and nobody rang,
    /// so that it is to be as before. Not for who has been notified; false if it is `stand` that must be asked. Who is not alone departs,
    /// too.
    #[inline]
    pub(crate) fn leave_unseen(&self, taken: Taken) -> bool {
        let Taken { before, then } = taken;
        guess(&self.word) == then && self.swap(then, before).is_ok()
    }

    /// A worker has left its seat.
    #[inline]
    pub(crate) fn depart(&self) {
        if self.counts {
            self.departures.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Sees to it that somebody sits again: the last seat was left.
    fn promote(&self) {
        if self.at_once {
            self.unpark(None);
            return;
        }
        if self.word.fetch_or(WATCHED, Ordering::Relaxed) & WATCHED == 0 {
            self.appoint();
        }
    }

    /// Makes a parked worker the watcher; the word says already that there is one.
    fn appoint(&self) {
        let waiters = self.waiters.lock();
        match waiters.last() {
            Some(&index) => {
                let mut token = self.parkers[index].token.lock();
                if *token == Token::Nothing {
                    *token = Token::Watch;
                }
                self.parkers[index].condvar.notify_one();
            }
            None => {
                self.word.fetch_and(!WATCHED, Ordering::Relaxed);
            }
        }
    }

    /// The watcher goes; another is appointed if the seat is empty.
    fn end_watch(&self) {
        if mutant("watch-kept") {
            return;
        }
        if lacks_sitter(self.word.fetch_and(!WATCHED, Ordering::Relaxed)) {
            self.promote();
        }
    }

    /// This worker goes to work, or away: somebody else is to sit, if nobody does.
    pub(crate) fn hand_over(&self) {
        if lacks_sitter(self.word.load(Ordering::Relaxed)) && !mutant("promote-nobody") {
            self.promote();
        }
    }

    /// Wakes a worker for work that is visible already, unless one is on its way.
    #[inline]
    pub(crate) fn wake_one(&self, backend: &dyn Backend) {
        // The waker's fence: pairs with `announce`.
        if !mutant("sleep-waker-fence") {
            fence(Ordering::SeqCst);
        }
        let word = self.word.load(Ordering::Relaxed);
        if word & ASLEEP != 0 && word & COMING == 0 {
            self.wake_slow(backend, word);
        }
    }

    #[cold]
    fn wake_slow(&self, backend: &dyn Backend, mut word: u64) {
        if parked(word) > 0 && self.unpark(None) {
            return;
        }
        while hears(word) && searching(word) == 0 && word & RUNG == 0 {
            match self.swap(word, word | RUNG) {
                Ok(_) => return backend.notify(),
                Err(now) => word = now,
            }
        }
    }

    /// Wakes worker `index`, if it sleeps, for what is queued for it alone.
    pub(crate) fn wake(&self, backend: &dyn Backend, index: usize) {
        // Pairs with `announce`.
        if !mutant("call-waker-fence") {
            fence(Ordering::SeqCst);
        }
        let mut word = self.word.load(Ordering::Relaxed);
        while let Some(seat) = seat_of(word, name(Some(index))) {
            if word >> seat & CALLED != 0 {
                return; // By somebody else; it looks again once it has risen.
            }
            match self.swap(word, word | CALLED << seat) {
                Ok(_) => return backend.notify(),
                Err(now) => word = now,
            }
        }
        if parked(word) > 0 && !mutant("call-parked-unheard") {
            self.unpark(Some(index));
        }
        if word & FOREIGN != 0 && !mutant("call-foreign-unheard") {
            backend.notify();
        }
    }

    /// Wakes that parked worker, or the one that parked last; it searches.
    fn unpark(&self, index: Option<usize>) -> bool {
        let index = {
            let mut waiters = self.waiters.lock();
            let at = match index {
                Some(index) => waiters.iter().position(|&waiter| waiter == index),
                None => waiters.len().checked_sub(1),
            };
            let Some(at) = at else {
                return false;
            };
            let index = waiters.remove(at);
            self.word
                .fetch_add(SEARCHING.wrapping_sub(PARKED), Ordering::Relaxed);
            index
        };
        self.tell(index, Token::Search);
        true
    }

    fn tell(&self, index: usize, what: Token) {
        let parker = &self.parkers[index];
        let before = std::mem::replace(&mut *parker.token.lock(), what);
        if !mutant("unpark-no-notify") {
            parker.condvar.notify_one();
        }
        // It was to watch, and had not looked yet: that falls to somebody else.
        if before == Token::Watch {
            self.end_watch();
        }
    }

    /// Wakes everybody who is parked, and one who sits; that one passes it on as it leaves (`pass_on`).
    pub(crate) fn wake_all(&self, backend: &dyn Backend) {
        fence(Ordering::SeqCst);
        loop {
            if !self.unpark(None) || mutant("wake-all-wakes-one") {
                break;
            }
        }
        self.pass_on(backend);
    }

    /// Wakes one who sits, if anybody does.
    pub(crate) fn pass_on(&self, backend: &dyn Backend) {
        if seated(self.word.load(Ordering::Relaxed)) > 0 && !mutant("stop-not-passed-on") {
            backend.notify();
        }
    }

    /// This worker searched and found; true if it was the last to search, and should see whether there is more.
    pub(crate) fn found(&self) -> bool {
        let word = self.word.fetch_sub(SEARCHING, Ordering::Relaxed);
        // Pairs with the waker's fence: whoever saw us search and went home made its work visible before.
        fence(Ordering::SeqCst);
        searching(word) == 1 && !mutant("last-searcher-keeps-quiet")
    }

    /// This worker searches no more, having found nothing. It looks again, once it is announced as asleep.
    pub(crate) fn gave_up(&self) {
        self.word.fetch_sub(SEARCHING, Ordering::Relaxed);
    }

    /// Sleeps until told, unless a seat is free and wanted, or `recheck` says that there is something to do.
    pub(crate) fn park(
        &self,
        index: usize,
        deadline: Option<Instant>,
        recheck: impl Fn() -> bool,
    ) -> Unparked {
        {
            let mut waiters = self.waiters.lock();
            let word = self.word.fetch_add(PARKED, Ordering::Relaxed);
            let sits = word & WANTED != 0 && self.is_free(word);
            if sits && !mutant("park-beside-a-free-seat") {
                self.word.fetch_sub(PARKED, Ordering::Relaxed);
                return Unparked::LookAgain;
            }
            waiters.push(index);
        }
        self.announce();
        if recheck() && self.withdraw(index) {
            return self.leave(index, Unparked::LookAgain);
        }
        self.wait(index, deadline)
    }

    /// Takes this worker from the waiters; false if somebody chose it already, and its token is on the way.
    fn withdraw(&self, index: usize) -> bool {
        let mut waiters = self.waiters.lock();
        let Some(at) = waiters.iter().position(|&waiter| waiter == index) else {
            return false;
        };
        waiters.remove(at);
        self.word.fetch_sub(PARKED, Ordering::Relaxed);
        true
    }

    /// Wipes the token, and hands on the watch if this worker had it.
    fn leave(&self, index: usize, how: Unparked) -> Unparked {
        let token = std::mem::replace(&mut *self.parkers[index].token.lock(), Token::Nothing);
        if token == Token::Watch {
            self.end_watch();
        }
        how
    }

    fn wait(&self, index: usize, deadline: Option<Instant>) -> Unparked {
        let parker = &self.parkers[index];
        let mut token = parker.token.lock();
        loop {
            match *token {
                Token::Search => {
                    *token = Token::Nothing;
                    return Unparked::Searching;
                }
                Token::Watch => {
                    *token = Token::Nothing;
                    drop(token);
                    let how = self.watch(index, deadline);
                    // Off watch. Whoever left the seat until now thought itself watched: this sees whether it did.
                    self.end_watch();
                    if let Some(how) = how {
                        return how;
                    }
                    token = parker.token.lock();
                    continue;
                }
                Token::Nothing => {}
            }
            let Some(deadline) = deadline else {
                token = parker.condvar.wait(token);
                continue;
            };
            let timed_out;
            (token, timed_out) = parker.condvar.wait_until(token, deadline);
            if timed_out {
                drop(token);
                if self.withdraw(index) {
                    return self.leave(index, Unparked::LookAgain);
                }
                token = parker.token.lock();
            }
        }
    }

    /// Looks at the seat once a tick, while somebody may be running handlers with the seat empty. None if nothing happened for
    /// long: then it is still parked. Nobody else is appointed meanwhile.
    fn watch(&self, index: usize, deadline: Option<Instant>) -> Option<Unparked> {
        let parker = &self.parkers[index];
        let mut seen = self.departures.load(Ordering::Relaxed);
        let mut quiet = 0;
        let mut token = parker.token.lock();
        while quiet < QUIET_TICKS {
            if *token == Token::Search {
                *token = Token::Nothing;
                return Some(Unparked::Searching);
            }
            let timed_out;
            (token, timed_out) = parker
                .condvar
                .wait_until(token, Instant::now() + WATCH_TICK);
            if !timed_out {
                continue;
            }
            drop(token);
            let departures = self.departures.load(Ordering::Relaxed);
            let empty = seated(self.word.load(Ordering::Relaxed)) == 0;
            let unchanged = std::mem::replace(&mut seen, departures) == departures;
            let over = deadline.is_some_and(|deadline| deadline <= Instant::now());
            if ((empty && unchanged) || over) && self.withdraw(index) {
                return Some(Unparked::LookAgain);
            }
            quiet = if unchanged && !empty { quiet + 1 } else { 0 };
            token = parker.token.lock();
        }
        None
    }

    /// For models: how many sit or are parked.
    #[cfg(proactor_loom)]
    pub(crate) fn asleep(&self) -> u64 {
        let word = guess(&self.word);
        seated(word) + parked(word)
    }

    /// For models: whether nobody sits, is parked or searches, and no watch is kept or left behind.
    #[cfg(proactor_loom)]
    pub(crate) fn is_quiet(&self) -> bool {
        let word = self.word.load(Ordering::Relaxed);
        let told = |parker: &CachePadded<Parker>| *parker.token.lock() != Token::Nothing;
        word & !(RUNG | FOREIGN | WANTED) == 0 && !self.parkers.iter().any(told)
    }
}
