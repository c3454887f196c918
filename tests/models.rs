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

#[test]
fn every_model_is_on_the_page_and_every_name_there_is_a_model() {
    let tests = all("loom-tests/tests");
    let models: BTreeSet<_> = between(&tests, "#[test]\nfn ", "(")
        .into_iter()
        .filter(|name| !name.starts_with("mutant_"))
        .collect();
    assert!(models.len() >= 26, "only {} models", models.len());
    let page = listed(&read(PAGE), "- model:");
    let named: BTreeSet<_> = page
        .iter()
        .map(String::as_str)
        .filter(|name| is_name(name, "_"))
        .collect();
    let missing: Vec<_> = models.difference(&named).collect();
    assert!(missing.is_empty(), "not in {PAGE}: {missing:?}");
    let made_up: Vec<_> = named.difference(&models).collect();
    assert!(made_up.is_empty(), "in {PAGE}, but no model: {made_up:?}");
}

#[test]
fn every_mutant_is_on_the_page_and_killed() {
    let (source, tests) = (all("src"), all("loom-tests/tests"));
    let mut mutants = between(&source, "mutant(\"", "\"");
    mutants.remove("...");
    // Handed on to the function that takes an item of the deque.
    mutants.extend(between(&source, ".win(front, \"", "\""));
    let page = listed(&read(PAGE), "- mutants:");
    let named: BTreeSet<_> = page
        .iter()
        .map(String::as_str)
        .filter(|name| is_name(name, "-"))
        .collect();
    let missing: Vec<_> = mutants.difference(&named).collect();
    assert!(missing.is_empty(), "not in {PAGE}: {missing:?}");
    let made_up: Vec<_> = named.difference(&mutants).collect();
    assert!(
        made_up.is_empty(),
        "in {PAGE}, but not in the source: {made_up:?}"
    );
    let killed = |mutant: &&&str| !tests.contains(&format!("\"{mutant}\""));
    let spared: Vec<_> = mutants.iter().filter(killed).collect();
    assert!(spared.is_empty(), "no test kills {spared:?}");
}
