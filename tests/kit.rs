//! The conformance kit: the strategies here keep every promise, and for each promise there is one that breaks it, and is told so.
#![cfg(not(proactor_loom))]

#[path = "kit/broken.rs"]
mod broken;
#[path = "../examples/custom_dispatcher/priority.rs"]
mod priority;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use broken::Wrong;
use proactor::conformance::{self, Broken, Kit, Promise, Report};
use proactor::dispatch::{Dispatcher, LeaderFollowers, SingleThreaded, WorkStealing};

fn kept(report: Result<Report, Broken>) -> BTreeSet<String> {
    let report = report.expect("every promise is kept");
    println!("{report}");
    report.kept().map(|promise| promise.to_string()).collect()
}

fn all() -> BTreeSet<String> {
    Promise::ALL.map(|promise| promise.to_string()).into()
}

#[test]
fn single_threaded_keeps_every_promise_and_an_order() {
    let kit = Kit::new().first_come_first_served();
    assert_eq!(kept(kit.check(SingleThreaded::new)), all());
}

#[test]
fn leader_followers_keeps_every_promise_and_an_order() {
    let kit = Kit::new().first_come_first_served();
    assert_eq!(kept(kit.check(LeaderFollowers::new)), all());
}

#[test]
fn work_stealing_keeps_every_promise() {
    conformance::check(WorkStealing::new);
}

#[test]
fn the_strategy_of_custom_dispatcher_keeps_every_promise_and_its_order() {
    let kit = Kit::new().order(|keys| {
        let mut order: Vec<usize> = (0..keys.len()).collect();
        order.sort_by_key(|&index| std::cmp::Reverse(keys[index])); // stable
        order
    });
    assert_eq!(kept(kit.check(priority::Priority::default)), all());
}

/// The whole kit, as an author runs it, says that `strategy` breaks `promise`, and shows `seen`.
fn breaks<D: Dispatcher>(
    strategy: impl Fn() -> D + Send + Sync + 'static,
    promise: Promise,
    seen: &str,
) {
    // A strategy that hangs is found by this; the checks before it have the time, too.
    let kit = Kit::new()
        .first_come_first_served()
        .patience(Duration::from_secs(10));
    let broken = kit.check(strategy).expect_err("a promise is broken");
    println!("{broken}");
    assert_eq!(broken.promise(), promise, "{broken}");
    assert!(broken.details().contains(seen), "no {seen:?} in {broken}");
    let text = broken.to_string();
    assert!(
        text.starts_with(&format!("broken promise: {promise}\n")),
        "{text}"
    );
}

macro_rules! broken {
    ($($name:ident: $wrong:ident, $promise:ident, $seen:literal;)*) => {$(
        #[test]
        fn $name() {
            breaks(|| broken::Strategy::new(Wrong::$wrong), Promise::$promise, $seen);
        }
    )*};
}

broken! {
    to_answer_fewer_than_asked_breaks_attach: AnswersFewer, Attach, "told 8, it answers 4";
    to_refuse_without_words_breaks_attach: RefusesInSilence, Attach, "without a word";
    to_have_room_for_fewer_than_answered_is_a_panic: HasRoomForOne, Answers, "index out of bounds";
    to_wait_in_next_hangs: WaitsInNext, Answers, "waited for `next(worker 0 of 1)`";
    to_wait_when_full_hangs: WaitsWhenFull, Answers, "waited for `dispatch` of call 1000";
    to_panic_over_a_key_is_told: PanicsOverKeys, Answers, "no such key";
    to_run_in_dispatch_is_no_dispatch: RunsAtOnce, OnlyTakes, "`dispatch` ran call 0";
    to_drop_in_dispatch_is_no_dispatch: DropsSome, OnlyTakes, "`dispatch` dropped call";
    to_lose_what_has_a_key_is_a_loss: LosesAKey, ExactlyOnce, "(key 64), which came from Outside";
    to_say_own_of_what_came_from_outside_wakes_nobody: OwnFromOutside, Shared, "no worker who would look";
    to_take_ahead_holds_up_what_is_shared: TakesAhead, Shared, "is in its handler";
    to_have_one_at_work_holds_up_what_is_shared: OneAtATime, Shared, "is in its handler";
    to_put_own_where_another_looks_is_no_own: OwnElsewhere, Own, "worker 0 asked until it got nothing";
    to_forget_what_the_port_keeps_strands_it: ForgetsWhatIsKept, Own, "asked until it got nothing";
    to_be_called_empty_too_early_is_a_lie: EmptyTooEarly, HonestlyEmpty, "still to be taken";
    to_be_never_empty_keeps_all_awake: NeverEmpty, SleepsWhenEmpty, "before anything was given";
    to_keep_what_a_worker_had_when_it_leaves_strands_it: KeepsItsOwn, HandsOn, "when worker 0 had left";
    to_run_the_latest_first_starves_the_others: LatestFirst, NobodyStarves, "picked 10000 times";
    to_mix_the_order_is_seen: Mixes, Order, "number 0 to run was to be call 0";
    to_queue_by_thread_wakes_nobody: QueueOfTheThread, Wakes, "it hangs";
    to_know_no_timers_loses_them: KnowsNoTimers, EveryKind, "of 20 timers fired";
    to_know_a_worker_by_its_thread_strands_it: KnowsThreads, AnyThread, "calls that were left";
    to_lose_what_an_unwinding_handler_posts_is_a_loss: LosesInPanics, Panics, "5 of them posted by panicking";
    to_leak_at_the_end_is_told: Leaks, GivesUp, "neither given";
}

/// What is lost when two meet at a lock may already be the one call that an idle pool was to wake for.
#[test]
fn to_give_up_when_it_is_locked_loses() {
    let kit = Kit::new().first_come_first_served();
    let kit = kit.patience(Duration::from_secs(10));
    let broken = kit.check(|| broken::Strategy::new(Wrong::LosesWhenLocked));
    let broken = broken.expect_err("a promise is broken");
    let seen = match broken.promise() {
        Promise::Together => "the others were dropped",
        Promise::Wakes => "it hangs",
        other => panic!("{other}: {broken}"),
    };
    assert!(broken.details().contains(seen), "no {seen:?} in {broken}");
}

/// A strategy that means to starve says so, and then passes.
#[test]
fn who_may_starve_is_not_asked_whether_it_does() {
    let kit = Kit::new().may_starve();
    let kept = kept(kit.check(|| broken::Strategy::new(Wrong::LatestFirst)));
    let mut wanted = all();
    wanted.remove(&Promise::NobodyStarves.to_string());
    wanted.remove(&Promise::Order.to_string());
    assert_eq!(kept, wanted);
}

#[test]
fn each_promise_has_a_strategy_that_breaks_it() {
    let here = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(file!()));
    let here = here.expect("this file");
    for promise in Promise::ALL {
        let row = format!(", {promise:?}, ");
        let arm = format!("Promise::{promise:?} => \"");
        let named = here.contains(&row) || here.contains(&arm);
        assert!(named, "no strategy breaks {promise:?}");
    }
}

#[test]
fn a_check_fails_with_the_words_of_the_promise() {
    let check = || conformance::check(|| broken::Strategy::new(Wrong::EmptyTooEarly));
    let panic = std::panic::catch_unwind(check).expect_err("a promise is broken");
    let text = panic.downcast_ref::<String>().expect("words");
    assert!(
        text.contains("`is_empty` never says yes while something `Shared` is held"),
        "{text}"
    );
}

/// What never ends is told when the patience ends, and not much later.
#[test]
fn patience_is_kept() {
    let began = Instant::now();
    let kit = Kit::new()
        .only(Promise::Answers)
        .patience(Duration::from_millis(300));
    let broken = kit
        .check(|| broken::Strategy::new(Wrong::WaitsInNext))
        .expect_err("it hangs");
    assert!(
        broken.details().contains("it hangs: after 300ms"),
        "{broken}"
    );
    assert!(began.elapsed() >= Duration::from_millis(300));
}

#[test]
fn the_models_say_how_to_get_at_them() {
    let check = || conformance::loom_check(LeaderFollowers::new);
    let panic = std::panic::catch_unwind(check).expect_err("there is no loom in this build");
    let text = panic.downcast_ref::<String>().map_or_else(
        || *panic.downcast_ref::<&str>().expect("words"),
        String::as_str,
    );
    assert!(text.contains("--cfg proactor_loom"), "{text}");
}

#[test]
fn every_promise_is_on_the_page_for_authors() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/writing-a-strategy.md");
    let page = fs::read_to_string(page).expect("the page");
    for promise in Promise::ALL {
        let models = if promise.is_modelled() { "yes" } else { "" };
        let row = format!("| {promise} | {models} |").replace("  ", " ");
        assert!(page.contains(&row), "no {row:?}");
    }
}
