//! The page of protocols and the models of `loom-tests` name each other: no model without a place on the page, no name on the
//! page without a model, no mutant that nothing kills.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

const PAGE: &str = "docs/dispatch-protocols.md";

fn read(path: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Every Rust file below `folder`, one after the other.
fn all(folder: &str) -> String {
    fn add(folder: PathBuf, text: &mut String) {
        for entry in fs::read_dir(folder).expect("a folder") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                add(path, text);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                text.push_str(&fs::read_to_string(path).expect("text"));
            }
        }
    }
    let mut text = String::new();
    add(
        Path::new(env!("CARGO_MANIFEST_DIR")).join(folder),
        &mut text,
    );
    text
}

/// What stands between `before` and `after`, wherever both do.
fn between<'a>(text: &'a str, before: &str, after: &str) -> BTreeSet<&'a str> {
    let parts = text.split(before).skip(1);
    parts
        .filter_map(|part| Some(part.split_once(after)?.0))
        .collect()
}

fn is_name(name: &str, part: &str) -> bool {
    name.contains(part)
        && name
            .chars()
            .all(|c| c.is_ascii_lowercase() || part.contains(c))
}

/// The code words of the page's lines that stand under `- model:` or `- mutants:`.
fn listed(page: &str, what: &str) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let mut within = false;
    for line in page.lines() {
        within = line.starts_with(what) || (within && line.starts_with("  "));
        if within {
            names.extend(line.split('`').skip(1).step_by(2).map(str::to_owned));
        }
    }
    names
}

/// `what` there is, and what the page lists under `heading`, are the same. Names have words that are joined by `joint`.
fn same_as_the_page(what: &BTreeSet<&str>, heading: &str, joint: &str) {
    let page = listed(&read(PAGE), heading);
    let names = page.iter().map(String::as_str);
    let named: BTreeSet<_> = names.filter(|name| is_name(name, joint)).collect();
    let missing: Vec<_> = what.difference(&named).collect();
    assert!(missing.is_empty(), "not in {PAGE}: {missing:?}");
    let made_up: Vec<_> = named.difference(what).collect();
    assert!(made_up.is_empty(), "only in {PAGE}: {made_up:?}");
}

fn models(tests: &str) -> BTreeSet<&str> {
    let mut models = between(tests, "#[test]\nfn ", "(");
    models.retain(|name| !name.starts_with("mutant_"));
    models
}

#[test]
fn every_model_is_on_the_page_and_every_name_there_is_a_model() {
    let tests = all("loom-tests/tests");
    let models = models(&tests);
    assert!(models.len() >= 26, "only {} models", models.len());
    same_as_the_page(&models, "- model:", "_");
}

#[test]
fn every_mutant_is_on_the_page_and_killed() {
    let (source, tests) = (all("src"), all("loom-tests/tests"));
    let mut mutants = between(&source, "mutant(\"", "\"");
    mutants.remove("...");
    // Handed on to the function that takes an item of the deque.
    mutants.extend(between(&source, ".win(front, \"", "\""));
    same_as_the_page(&mutants, "- mutants:", "-");
    mutants.retain(|mutant| !tests.contains(&format!("\"{mutant}\"")));
    assert!(mutants.is_empty(), "no test kills {mutants:?}");
}

/// Models whose mutants are made by machine: what they are about is one ordering, or one call.
const BY_MACHINE: [&str; 5] = [
    "a_key_that_is_late_reads_no_other_tenants_body", // the ordering of a cell's `data`
    "a_notification_ends_a_wait",                     // `CompletionPort::notify` deleted
    "a_place_that_is_left_is_taken", // one guest called, not all, as a place is left
    "a_stop_hands_over_what_came_before_it", // the ordering of the halt bits
    "a_stop_sends_guests_home",      // one guest called, not all, at a stop
];

#[test]
fn every_model_is_seen_to_fail() {
    let tests = all("loom-tests/tests");
    let mut models = models(&tests);
    let kills = between(&tests, "kills(", ");");
    let names = kills
        .iter()
        .flat_map(|call| call.split('"').skip(3).step_by(4));
    let killing: BTreeSet<_> = names.collect();
    models.retain(|model| !killing.contains(model) && !BY_MACHINE.contains(model));
    assert!(models.is_empty(), "no mutant is tried on {models:?}");
}
