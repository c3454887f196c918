//! Small sources in, mutants and instrumented text out.

use std::collections::HashSet;

use crate::equivalent::Equivalent;
use crate::scan::{Scan, scan};

fn scanned(source: &str) -> Scan {
    scan("src/a.rs", source, 1).expect("the source is Rust")
}

/// What the mutants of `body` are, in a function `f`.
fn steps(body: &str) -> Vec<String> {
    steps_of(&format!("fn f() {{ {body} }}"), "src/a.rs :: f :: ")
}

fn steps_of(source: &str, scope: &str) -> Vec<String> {
    let mutants = scanned(source).mutants;
    let within = |identity: &str| identity.strip_prefix(scope).map(str::to_owned);
    mutants
        .iter()
        .map(|mutant| within(&mutant.identity).expect("the scope is told"))
        .collect()
}

fn instrumented(body: &str) -> String {
    let text = scanned(&format!("fn f() {{ {body} }}")).instrumented;
    let body = text
        .strip_prefix("fn f() { ")
        .and_then(|text| text.strip_suffix(" }"));
    let body = body.expect("what stands around it stays");
    body.replace("crate::sync::mutate::", "@")
        .replace("crate::sync::atomic::Ordering::", "O::")
}

#[test]
fn orderings_weaken_by_one_step_as_their_access_allows() {
    let none: [&str; 0] = [];
    assert_eq!(steps("a.load(Ordering::Relaxed);"), none);
    assert_eq!(
        steps("a.load(Ordering::SeqCst);"),
        ["load #1 SeqCst->Acquire"]
    );
    assert_eq!(steps("a.load(Acquire);"), ["load #1 Acquire->Relaxed"]);
    assert_eq!(
        steps("a.store(1, atomic::Ordering::SeqCst);"),
        ["store #1 SeqCst->Release"]
    );
    assert_eq!(
        steps("a.swap(1, Ordering::SeqCst);"),
        ["swap #1 SeqCst->AcqRel"]
    );
    assert_eq!(
        steps("a.fetch_or(1, Ordering::AcqRel);"),
        ["fetch_or #1 AcqRel->Acquire", "fetch_or #1 AcqRel->Release"]
    );
    assert_eq!(
        steps("a.compare_exchange(0, 1, Ordering::SeqCst, Ordering::SeqCst);"),
        [
            "compare_exchange #1 success SeqCst->AcqRel",
            "compare_exchange #1 failure SeqCst->Acquire"
        ]
    );
    assert_eq!(
        steps("a.fetch_update(Ordering::Release, Ordering::Acquire, |old| Some(old));"),
        [
            "fetch_update #1 success Release->Relaxed",
            "fetch_update #1 failure Acquire->Relaxed"
        ]
    );
}

#[test]
fn a_fence_is_left_out_and_weakened_while_it_stays_a_fence() {
    assert_eq!(
        steps("fence(Ordering::SeqCst); fence(Ordering::Release);"),
        [
            "fence #1 deleted",
            "fence #1 SeqCst->AcqRel",
            "fence #2 deleted"
        ]
    );
    assert_eq!(
        instrumented("fence(Ordering::Acquire);"),
        "{ if @keeps(1) { fence(Ordering::Acquire); } };"
    );
}

#[test]
fn an_ordering_in_a_variable_or_behind_a_condition_is_one_too() {
    assert_eq!(
        steps("let o = if c { Ordering::Relaxed } else { Ordering::Release }; a.store(1, o);"),
        ["ordering #2 Release->Relaxed"]
    );
    assert_eq!(
        steps("a.load(if mutant(\"m\") { Ordering::Relaxed } else { Ordering::Acquire });"),
        ["load #1 Acquire->Relaxed"]
    );
    let unknown = scanned("fn f() { let o = SeqCst; }");
    assert!(unknown.mutants.is_empty());
    assert_eq!(unknown.skipped.len(), 1);
}

#[test]
fn both_weaker_orderings_of_one_are_told_apart_at_run_time() {
    assert_eq!(
        instrumented("a.swap(1, Ordering::AcqRel)"),
        "a.swap(1, @order(1, @order(2, Ordering::AcqRel, O::Release), O::Acquire))"
    );
}

#[test]
fn a_waker_is_left_out_wherever_its_value_goes() {
    let text = instrumented("s.wake_one(b); if !s.unpark_one() { return s.promote() } s.notify()");
    assert_eq!(
        text,
        "{ if @keeps(1) { s.wake_one(b); } }; if !(@keeps(2) && s.unpark_one()) \
         { return { if @keeps(3) { s.promote() } } } { if @keeps(4) { s.notify() } }"
    );
    assert_eq!(
        instrumented("let _ = p.notify(); s.unpark_one();"),
        "let _ = { if @keeps(1) { p.notify(); } }; { if @keeps(2) { s.unpark_one(); } };"
    );
    assert_eq!(
        instrumented("return s.leave(i, How::Again)"),
        "return { if @keeps(1) { s.leave(i, How::Again) } else { How::Again } }"
    );
}

#[test]
fn notify_all_is_left_out_and_wakes_one() {
    assert_eq!(
        steps("c.notify_all();"),
        ["notify_all #1 deleted", "notify_all #1 ->notify_one"]
    );
    assert_eq!(
        instrumented("g(\"@#\").notify_all();"),
        "{ if @keeps(1) { { if @is(2) { g(\"@#\").notify_one() } else { g(\"@#\").notify_all() } }; } };"
    );
}

#[test]
fn a_while_around_a_wait_goes_round_once_and_no_other_loop_does() {
    assert_eq!(
        instrumented("while over() {g = c.wait(g);}"),
        "{ let mut gone_round = false; while over() { if @again(1, &mut gone_round) { break; }g = c.wait(g);} }"
    );
    assert_eq!(
        steps("while !late { (g, late) = c.wait_until(g, at); }"),
        ["while #1 ->if"]
    );
    assert_eq!(steps("while more { backend.wait(events); }"), [""; 0]);
    let around = scanned("fn f() { loop { g = c.wait(g); } }");
    assert!(around.mutants.is_empty());
    assert_eq!(around.skipped.len(), 1);
}

#[test]
fn what_stands_in_a_macro_is_seen() {
    assert_eq!(
        instrumented("assert!(a.load(Acquire) > 0, \"ä {}\", b.load(Acquire));"),
        "assert!(a.load(@order(1, Acquire, O::Relaxed)) > 0, \"ä {}\", b.load(@order(2, Acquire, O::Relaxed)));"
    );
    let defined = scanned("macro_rules! m { () => { fence(SeqCst) } }");
    assert!(defined.mutants.is_empty());
    assert_eq!(defined.skipped.len(), 1);
}

#[test]
fn what_the_models_cannot_contain_is_left_alone() {
    let absent = "
        use std::sync::atomic::Ordering::{self, Acquire};
        #[cfg(test)] mod tests { fn f() { fence(SeqCst); } }
        #[cfg(not(proactor_loom))] fn g() { fence(SeqCst); }
        #[cfg(all(target_os = \"linux\", not(proactor_loom)))] impl A { fn g() { fence(SeqCst); } }
        impl B { #[cfg(not(any(proactor_loom, test)))] fn g() { fence(SeqCst); } }
        fn h() {
            #[cfg(not(proactor_loom))] { fence(SeqCst); }
            #[cfg(not(proactor_loom))] s.notify();
            #[cfg(not(proactor_loom))] let x = a.load(Acquire);
            match o { Ordering::Acquire => (), #[cfg(test)] Ordering::Release => s.notify(), _ => () }
            if mutant(\"by hand\") { a.store(1, Ordering::SeqCst); }
        }
    ";
    assert_eq!(steps_of(absent, ""), [""; 0]);
    assert_eq!(scanned(absent).instrumented, absent);
    let present = "#[cfg(any(test, proactor_loom))] mod m { #[cfg(unix)] fn g() { s.notify(); } }";
    assert_eq!(
        steps_of(present, "src/a.rs :: m::g :: "),
        ["notify #1 deleted"]
    );
}

#[test]
fn nothing_is_asked_in_a_constant() {
    let constant = scanned("const fn f(a: &A) { a.load(Acquire); } static S: u8 = g(Acquire);");
    assert!(constant.mutants.is_empty());
    assert_eq!(constant.skipped.len(), 2);
}

#[test]
fn an_identity_outlives_a_move_and_says_which_of_several_it_is() {
    let source = "impl<T> Ring<T> { fn take(&self) { a.load(Acquire); b.load(Acquire); } }
        impl Drop for Ring<u8> { fn drop(&mut self) { s.notify(); } }";
    let identities = |source: &str| steps_of(source, "src/a.rs :: ");
    let expected = [
        "Ring::take :: load #1 Acquire->Relaxed",
        "Ring::take :: load #2 Acquire->Relaxed",
        "Ring::drop :: notify #1 deleted",
    ];
    assert_eq!(identities(source), expected);
    assert_eq!(identities(&format!("\n\nuse a::B;\n{source}")), expected);
}

#[test]
fn a_mutant_shows_its_line_before_and_after() {
    let scan = scanned("fn f() {\n    // é\n    if x {\n        a.load(Acquire);\n    }\n}");
    let mutant = &scan.mutants[0];
    assert_eq!((mutant.line, mutant.number), (4, 1));
    assert_eq!(mutant.before, "a.load(Acquire);");
    assert_eq!(mutant.after, "a.load(Relaxed);");
    assert_eq!(scan.instrumented.lines().count(), 6);
}

#[test]
fn the_list_is_read_with_its_faults() {
    let list = Equivalent::parse(
        "# head\nsrc/a.rs :: f :: x\n  because\n\n  and so\nsrc/b.rs :: g :: y\n",
    );
    assert!(list.has("src/a.rs :: f :: x"));
    assert_eq!(list.faults.len(), 1, "y has no argument: {:?}", list.faults);
    let present = HashSet::from(["src/a.rs :: f :: x"]);
    assert_eq!(list.stale(&present, |_| true).len(), 1);
    assert!(list.stale(&present, |file| file == "src/a.rs").is_empty());
    let twice = Equivalent::parse("src/a.rs :: f :: x\n  one\nsrc/a.rs :: f :: x\n  two\n");
    assert_eq!(twice.faults.len(), 1);
    assert_eq!(Equivalent::parse("  an argument\n").faults.len(), 1);
}
