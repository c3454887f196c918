//! What a proactor promises, one test a promise, each named by its number; `docs/conformance.md` has the list.
#![cfg(not(proactor_loom))]
#![allow(clippy::unwrap_used)] // helpers are tests, too, which clippy does not see

#[path = "../common/mod.rs"]
mod common;
#[path = "../common/outside.rs"]
mod outside;
#[path = "../common/process.rs"]
mod process;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

mod cancellation;
mod composed;
mod futures;
mod others;
mod running;
mod strands;
mod streams;
mod timers;

const PAGE: &str = "docs/conformance.md";

/// Promises whose test comes with what they are about: 44 with signals, 45 with name resolution.
const TO_COME: &[usize] = &[44, 45];

/// 7 for `p07_and_so_on`.
fn number_of(test: &str) -> Option<usize> {
    test.strip_prefix('p')?.split_once('_')?.0.parse().ok()
}

/// The promises' tests below `folder`, each with its file.
fn tests_below(root: &Path, folder: &Path, found: &mut BTreeMap<String, String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            tests_below(root, &path, found);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let file = path.strip_prefix(root).unwrap().display().to_string();
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let tests = lines.windows(2).filter(|pair| pair[0] == "#[test]");
        let names = tests.filter_map(|pair| pair[1].strip_prefix("fn ")?.split('(').next());
        let numbered = names.filter(|name| number_of(name).is_some());
        found.extend(numbered.map(|name| (name.to_owned(), file.replace('\\', "/"))));
    }
}

#[test]
fn the_page_and_the_tests_name_each_other() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let folder = root.join("tests/conformance");
    let mut tests = BTreeMap::new();
    tests_below(&folder, &folder, &mut tests);
    let page = fs::read_to_string(root.join(PAGE)).unwrap();
    let mut last = 0;
    for line in page.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(number) = cells.get(1).and_then(|cell| cell.parse().ok()) else {
            continue;
        };
        assert_eq!(number, last + 1, "{PAGE}: promises out of order");
        last = number;
        let comes = TO_COME.contains(&number);
        let names = cells[3].split('`').skip(1).step_by(2);
        let of_this = names.filter(|name| number_of(name) == Some(number));
        let of_this: Vec<&str> = of_this.collect();
        assert!(
            comes || !of_this.is_empty(),
            "{PAGE}: promise {number} has no test"
        );
        for name in of_this {
            let found = tests.remove(name).map(|file| format!("`{file}`"));
            assert_eq!(found.as_deref(), Some(cells[4]), "{PAGE}: where {name} is");
        }
    }
    assert_eq!(last, 48, "{PAGE}: promises are missing");
    assert!(
        tests.is_empty(),
        "{PAGE}: put these into their promises' rows: {tests:?}"
    );
}
