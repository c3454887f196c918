//! The pages with code to copy: it is copied, built and run, in crates outside of the workspace.

use std::fs;
use std::path::Path;

use super::outside::{Crate, root};

/// The pages for those who come from elsewhere.
const NEWCOMERS: [&str; 3] = ["from-asio.md", "from-iocp.md", "from-tokio.md"];

fn page(name: &str) -> String {
    fs::read_to_string(root().join("docs").join(name)).expect("the page")
}

/// The code of a page: what it is said to be, the line above it, and its text.
fn blocks(page: &str) -> Vec<(&str, usize, String)> {
    let mut blocks = Vec::new();
    let mut open = None;
    for (number, line) in (1..).zip(page.lines()) {
        match (line.strip_prefix("```"), &mut open) {
            (Some(info), None) => open = Some((info, number, String::new())),
            (Some(_), Some(_)) => blocks.extend(open.take()),
            (None, Some((_, _, text))) => *text += &format!("{line}\n"),
            (None, None) => {}
        }
    }
    assert!(open.is_none(), "a block without an end");
    blocks
}

#[test]
fn the_strategy_of_its_page_builds_and_runs_outside_of_the_workspace() {
    let page = page("writing-a-strategy.md");
    let strategy = Crate::new("strategy");
    let mut files = Vec::new();
    for (info, line, text) in blocks(&page) {
        if ["sh", "text"].contains(&info) {
            continue;
        }
        let first = text.lines().next().unwrap_or_default();
        let path = match info {
            "toml" => first.strip_prefix("# "),
            "rust" => first.strip_prefix("// "),
            _ => None,
        };
        let path = path.unwrap_or_else(|| panic!("line {line}: a {info:?} block of no file"));
        let here = format!("'{}'", root().display());
        strategy.write(path, &text.replace("\"../proactor\"", &here));
        files.push(path.to_owned());
    }
    assert_eq!(
        files,
        ["Cargo.toml", "src/lib.rs", "src/main.rs", "tests/order.rs"]
    );
    let said = strategy.cargo("run");
    assert!(said.ends_with("4 handlers ran\n"), "{said}");
    let tested = strategy.cargo("test");
    assert_eq!(tested.matches("1 passed; 0 failed").count(), 2, "{tested}");
    let explored = strategy.test_under_loom();
    for said in ["executions at 2 preemptions", "1 passed; 0 failed"] {
        assert!(explored.contains(said), "{explored}");
    }
}

#[test]
fn the_rust_on_the_pages_for_newcomers_compiles() {
    let mut library = "#![allow(dead_code)]\n".to_owned();
    for name in NEWCOMERS {
        let page = page(name);
        let blocks = blocks(&page);
        let odd = blocks
            .iter()
            .find(|(info, ..)| !["rust", "cpp", "rust,tokio"].contains(info));
        assert!(odd.is_none(), "{name}: a block that nobody checks: {odd:?}");
        let rust: Vec<_> = blocks.iter().filter(|(info, ..)| *info == "rust").collect();
        assert!(rust.len() >= 3, "{name}: {} blocks", rust.len());
        let module = name.replace(['-', '.'], "_");
        for (_, line, text) in rust {
            library += &format!("mod {module}_line_{line} {{\n{text}}}\n");
        }
    }
    let others = ["async-channel", "futures-lite"];
    Crate::with_dependencies("newcomers", &library, &others).cargo("build");
}

/// The functions that are called in the last column of a page's tables.
fn called(page: &str) -> Vec<&str> {
    let mut names = Vec::new();
    for row in page.lines().filter(|line| line.starts_with('|')) {
        let last = row.trim_end_matches('|').rsplit(" | ").next();
        for code in last
            .into_iter()
            .flat_map(|cell| cell.split('`').skip(1).step_by(2))
        {
            for (open, _) in code.match_indices('(') {
                let before = &code[..open];
                let name = before.rsplit(|c: char| c != '_' && !c.is_ascii_alphanumeric());
                names.extend(
                    name.take(1)
                        .filter(|name| name.starts_with(|c: char| c.is_ascii_lowercase())),
                );
            }
        }
    }
    names
}

#[test]
fn the_functions_that_the_tables_for_newcomers_name_exist() {
    fn sources(directory: &Path, text: &mut String) {
        for entry in fs::read_dir(directory).expect("the sources") {
            let path = entry.expect("an entry").path();
            if path.is_dir() {
                sources(&path, text);
            } else {
                *text += &fs::read_to_string(path).expect("a source");
            }
        }
    }
    let mut text = String::new();
    sources(&root().join("src"), &mut text);
    for name in NEWCOMERS {
        let page = page(name);
        let called = called(&page);
        assert!(called.len() > 20, "{name}: {called:?}");
        for function in called {
            let public = ["(", "<"]
                .iter()
                .any(|next| text.contains(&format!("pub fn {function}{next}")));
            assert!(
                public,
                "{name} names `{function}`, which is no public function"
            );
        }
    }
}
