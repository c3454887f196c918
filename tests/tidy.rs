//! The rules of this house that no linter can say. Each failure lists where, and says what to do.
//!
//! Sources are looked at as tokens, without comments, strings and characters; where a rule is about
//! production code, also without what stands under `#[cfg(test)]`. That is no Rust parser: the tests at
//! the end of this file show what it understands. Texts are leaked, which spares lifetimes.
#![cfg(not(proactor_loom))]

#[path = "tidy/tokens.rs"]
mod tokens;

use std::fs;
use std::path::Path;

use tokens::{Tokens, from_crate, functions, paths, without_tests};

const MAX_FILE_LINES: usize = 599;
const MAX_FUNCTION_LINES: usize = 69;

const DIRECTORIES: &[&str] = &["src", "tests", "loom-tests", "benches", "examples"];

/// The files that may name the originals of what `crate::sync` hands out.
const SYNC_HOME: &[&str] = &["src/sync.rs"];
const SYNC_ORIGINALS: &str = "std::sync std::thread core::sync alloc::sync parking_lot loom";

/// The floors, from the first upwards; imports go down only. The longest entry that begins a path is its own.
const FLOORS: &[&str] = &[
    "sync error id trace",
    "operation completion cell local work pressure buf queue",
    "backend",
    "port",
    "initiation spawn",
    "dispatch dispatch::single dispatch::leader_followers dispatch::work_stealing \
     blocking net time group strand fs signal future",
    "builder adapt",
    "proactor model local_proactor",
    "conformance",
];

/// On this floor, entries may not import each other, unless one of them is within the other.
const APART: u8 = 6;

/// Every file that allows unsafe code, each as `<path>: <why it cannot do without>`.
const UNSAFE_FILES: &[&str] = &[
    "benches/src/count.rs: a global allocator that counts",
    "src/adapt/hyper.rs: hyper lends buffers that are uninitialised",
    "src/backend/direction.rs: operations are reached through their cells",
    "src/backend/direct.rs: operations are called through their tables",
    "src/backend/epoll.rs: the kernel's events name entries by address",
    "src/backend/portable.rs: polling's registrations outlive the borrow of their source",
    "src/backend/readiness.rs: operations are called through their tables",
    "src/backend/readiness/close.rs: operations are finished, and descriptors taken out",
    "src/backend/readiness/poll.rs: notices are reached through their tables",
    "src/backend/registry.rs: entries outlive what a lock-free lookup can borrow",
    "src/backend/repeats.rs: operations are reached through their cells",
    "src/backend/shelf.rs: requests name buffers by address",
    "src/buf.rs: buffers promise stable memory to the kernel",
    "src/buf/pool.rs: lent buffers promise stable memory to the kernel",
    "src/cell.rs: recycled memory under erased bodies",
    "src/completion.rs: erased bodies are run",
    "src/initiation/compose.rs: a completer is made for the operation beside it",
    "src/local.rs: a thread's pointer to its own stack",
    "src/model.rs: what is polled is named by address",
    "src/model/parts.rs: a cell that loom watches, shared",
    "src/net/datagrams.rs: buffers become addresses",
    "src/net/ops.rs: buffers become addresses, and results descriptors",
    "src/net/poll.rs: what is lent becomes addresses",
    "src/net/until.rs: buffers become addresses",
    "src/net/vectored.rs: buffers become addresses",
    "src/operation/awaited.rs: a cell that a future shares with whoever finishes its operation",
    "src/operation/key.rs: a name that is a pointer",
    "src/operation/result.rs: erased bodies are finished",
    "src/operation/perform.rs: requests name buffers by address",
    "src/operation/scripted.rs: an operation's memory, named by address",
    "src/operation/erased.rs: bodies whose type is forgotten are reached by their cells",
    "src/operation/mod.rs: erased bodies are written",
    "src/port/compose.rs: an output goes into a cell whose body's type is forgotten",
    "src/port/direct.rs: cells are attempted by whoever owns them",
    "src/port/lane.rs: calls stand in cells",
    "src/port/mod.rs: entries count the port, and workers borrow it",
    "src/port/object.rs: entries count the port",
    "src/backend/polls.rs: notices are reached through their tables",
    "src/port/poll.rs: what is lent is known by address",
    "src/port/repeat.rs: cells are attempted and finished by whoever owns them",
    "src/port/timers.rs: cells that were armed are their taker's",
    "src/port/weak.rs: a worker has borrowed its port",
    "src/queue/stack.rs: what comes out of a deque is a completion",
    "src/port/dispatcher.rs: a worker's stack is its thread's",
    "src/queue.rs: cells linked through their headers",
    "src/strand/bound.rs: a turn ends once",
    "src/strand.rs: the state that one handler at a time may touch",
    "src/sync.rs: loom's read without synchronisation, threads that borrow",
    "tests/allocations.rs: a global allocator that counts",
    "tests/buffers.rs: a global allocator that counts",
    "tests/hostile.rs: buffers that panic and begin operations",
    "tests/replying/hostile.rs: buffers that panic",
];

/// Every file of the library with a panic that is written out, each as `<path>: <why no input reaches it, or who is told of it>`.
const PANICS: &[&str] = &[
    "src/cell/depot.rs: while it is compiled",
    "src/conformance/mod.rs: a test that fails",
    "src/conformance/models.rs: a model that fails",
    "src/initiation/future.rs: a future that is polled after it was ready, as everywhere",
    "src/initiation/wait.rs: a buffer of the user's own panicked before",
    "src/model.rs: what a model was built with",
    "src/model/parts.rs: what a model was built with",
    "src/spawn/join.rs: a handle that is polled after it was ready, as everywhere",
    "src/port/mod.rs: no descriptor is left for a foreign loop; whoever asks for it is told",
    "src/port/timers/naps.rs: while it is compiled",
    "src/port/pool.rs: while it is compiled",
];

/// A line and what is wrong with it.
type Fault = (usize, String);

// ---- the rules ----

#[test]
fn files_stay_short() {
    let rule = "A file has under 600 lines: split it by what its parts are about";
    check(rule, &sources(DIRECTORIES), |source| {
        let lines = source.text.lines().count();
        let fault = (lines, format!("{lines} lines"));
        Vec::from_iter((lines > MAX_FILE_LINES).then_some(fault))
    });
}

#[test]
fn functions_stay_short() {
    let rule = "A function has under 70 lines: keep the branching here, move the leaves out";
    check(rule, &sources(DIRECTORIES), |source| {
        let mut functions = functions(&source.tokens);
        functions.retain(|(_, _, lines)| *lines > MAX_FUNCTION_LINES);
        let fault = |(name, line, lines)| (line, format!("`{name}` has {lines} lines"));
        functions.into_iter().map(fault).collect()
    });
}

#[test]
fn only_the_loom_switch_names_locks_and_threads() {
    let rule = "Take it from `crate::sync`, or the loom models cannot see it";
    let mut sources = production();
    sources.retain(|source| !SYNC_HOME.contains(&source.path));
    check(rule, &sources, |source| {
        let mut paths = paths(&source.tokens, "crate");
        paths.retain(|(_, path)| {
            // A crate's name alone may also be a variable's or a field's.
            let original = SYNC_ORIGINALS.split(' ').find(|name| is_within(path, name));
            original.is_some() && path.contains("::")
        });
        paths
    });
}

#[test]
fn imports_go_down_only() {
    let rule = "Name nothing of a higher floor, nor a sibling (FLOORS, tests/tidy.rs): move what is \
        shared down, pass it in from above, and name the module that defines it, not the root";
    check(rule, &production(), |source| {
        let from = module_of(source.path);
        if from != "crate" && floor_of(&from).is_none() {
            let fault = "give the module its floor, here and in docs/architecture.md";
            return vec![(1, fault.to_owned())];
        }
        let fault = |(line, path): Fault| Some((line, import_fault(&from, &path)?));
        let paths = paths(&source.tokens, &from);
        paths.into_iter().filter_map(fault).collect()
    });
}

#[test]
fn nothing_is_left_unfinished() {
    let rule = "Finish it, or take it out: what is merged is whole, and every test runs";
    check(rule, &sources(DIRECTORIES), unfinished);
}

#[test]
fn tests_wait_for_conditions_and_not_for_time() {
    let rule = "Wait for the condition; where only time will do, add `// sleep: <reason>`";
    check(rule, &sources(&["src", "tests"]), |source| {
        let mut paths = paths(&source.tokens, "crate");
        paths.retain(|(_, path)| path.ends_with("thread::sleep"));
        paths.retain(|(line, _)| {
            // A reason may stand on the line, or on the one above it.
            let mut near = source.text.lines().take(*line).skip(line.saturating_sub(2));
            !near.any(|line| line.contains("// sleep: "))
        });
        paths
    });
}

#[test]
fn unsafe_code_stands_in_listed_files_alone() {
    let rule = "Do without unsafe code, or list the file in UNSAFE_FILES (tests/tidy.rs)";
    check(rule, &sources(DIRECTORIES), |source| {
        let reason = |entry: &&'static str| entry.strip_prefix(source.path)?.strip_prefix(": ");
        let listed = UNSAFE_FILES.iter().find_map(reason);
        let fault = match (allows_unsafe(&source.tokens), listed) {
            (Some(line), None) => (line, format!("add \"{}: <why>\"", source.path)),
            (None, Some(_)) => (1, "take it off the list".to_owned()),
            _ => return Vec::new(),
        };
        vec![fault]
    });
}

#[test]
fn no_input_panics() {
    let rule = "Give an error, or list the file in PANICS (tests/tidy.rs) with the reason";
    check(rule, &production(), |source| {
        let reason = |entry: &&'static str| entry.strip_prefix(source.path)?.strip_prefix(": ");
        let listed = PANICS.iter().find_map(reason);
        let tokens = &source.tokens;
        let signs = ["panic !", "unreachable !", ". unwrap (", ". expect ("];
        let panics = |&at: &usize| signs.iter().any(|sign| tokens.begins(at, sign));
        match ((0..tokens.words.len()).find(panics), listed) {
            (Some(at), None) => vec![(tokens.lines[at], "panics".to_owned())],
            (None, Some(_)) => vec![(1, "take it off the list".to_owned())],
            _ => Vec::new(),
        }
    });
}

#[test]
fn every_command_of_the_readme_is_run_by_ci() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let [readme, ci] = ["README.md", ".ci/run"].map(|path| fs::read_to_string(root.join(path)));
    let (Ok(readme), Ok(ci)) = (readme, ci) else {
        return; // A packaged crate has no `.ci`.
    };
    let rule = "Run the command in `.ci/run`, written as the README writes it, or take it out";
    let ran = |line: &str, command: &str| line.contains(command) && !line.trim().starts_with('#');
    let mut faults = commands(&readme);
    faults.retain(|(_, command)| !ci.lines().any(|line| ran(line, command)));
    let listed = |(line, command)| format!("\n  README.md:{line}: {command}");
    let faults: String = faults.into_iter().map(listed).collect();
    assert!(faults.is_empty(), "{rule}:{faults}\n");
}

fn check(rule: &str, sources: &[Source], faults_of: impl Fn(&Source) -> Vec<Fault>) {
    let mut faults = String::new();
    for source in sources {
        let listed = |(line, what)| format!("\n  {}:{line}: {what}", source.path);
        faults.extend(faults_of(source).into_iter().map(listed));
    }
    assert!(faults.is_empty(), "{rule}:{faults}\n");
}

// ---- what the rules look for ----

/// Whether the path is `outer`, or begins with it.
fn is_within(path: &str, outer: &str) -> bool {
    let rest = path.strip_prefix(outer);
    rest.is_some_and(|rest| rest.is_empty() || rest.starts_with("::"))
}

/// The entry of [`FLOORS`] that a path from the crate's root begins with, and its floor.
fn floor_of(path: &str) -> Option<(&'static str, u8)> {
    let path = path.strip_prefix("crate::")?;
    let floors = (1..).zip(FLOORS).map(|(floor, entries)| {
        let entries = entries.split(' ').filter(|entry| is_within(path, entry));
        Some((entries.max_by_key(|entry| entry.len())?, floor))
    });
    floors.flatten().max_by_key(|(entry, _)| entry.len())
}

/// What is wrong with `to` being named in module `from`, if anything is.
fn import_fault(from: &str, to: &str) -> Option<String> {
    let (own, own_floor) = floor_of(from)?; // The root itself is above all.
    if !to.starts_with("crate::") || is_within(to, from) {
        return None; // A parent lists its children.
    }
    let Some((entry, floor)) = floor_of(to) else {
        return Some(format!("`{to}` is a name of no floor"));
    };
    if floor > own_floor {
        return Some(format!("floor {own_floor} names `{to}` of {floor}"));
    }
    let apart = floor == APART && own_floor == APART;
    let related = is_within(entry, own) || is_within(own, entry);
    (apart && !related).then(|| format!("`{own}` names its sibling `{to}`"))
}

/// Every sign that something is not finished.
fn unfinished(source: &Source) -> Vec<Fault> {
    let tokens = &source.tokens;
    let mut found = Vec::new();
    for at in 0..tokens.words.len() {
        let mut signs = ["# [ ignore", "todo !", "unimplemented !"].into_iter();
        let sign = signs.find(|sign| tokens.begins(at, sign));
        found.extend(sign.map(|sign| (tokens.lines[at], sign.to_owned())));
    }
    // Written so that this file does not find itself.
    let signs = ["FIX-ME", "X-XX", "TO-DO", "```-ignore", "```rust,-ignore"];
    let signs = signs.map(|sign| sign.replace('-', ""));
    for (index, line) in source.text.lines().enumerate() {
        let sign = signs.iter().find(|sign| line.contains(*sign));
        found.extend(sign.map(|sign| (index + 1, sign.clone())));
    }
    found
}

/// The line of the first attribute that lets unsafe code in.
fn allows_unsafe(tokens: &Tokens) -> Option<usize> {
    let is_allowed = |&at: &usize| {
        let refused = matches!(tokens.word(at - 2), "deny" | "forbid");
        tokens.word(at) == "unsafe_code" && !refused
    };
    let first = (2..tokens.words.len()).find(is_allowed)?;
    Some(tokens.lines[first])
}

/// The commands of a page's shell blocks. In a `console` block those are the lines with a prompt.
fn commands(page: &str) -> Vec<Fault> {
    let mut found = Vec::new();
    let mut block = None;
    for (index, line) in page.lines().map(str::trim).enumerate() {
        if let Some(info) = line.strip_prefix("```") {
            block = if block.is_some() { None } else { Some(info) };
            continue;
        }
        let command = match block {
            Some("console") => line.strip_prefix("$ ").unwrap_or(""),
            Some("sh" | "bash" | "shell") => line.strip_prefix("$ ").unwrap_or(line),
            _ => "",
        };
        let command = command.split(" #").next().unwrap_or("");
        let command = command.trim_end_matches('\\').trim();
        // Before the first command, a reader does what CI has done by then.
        let set_up = command.starts_with("git clone ") || command.starts_with("cd ");
        if !set_up && !command.is_empty() && !command.starts_with('#') {
            found.push((index + 1, command.to_owned()));
        }
    }
    found
}

struct Source {
    /// From the workspace's root, with `/` between the parts.
    path: &'static str,
    text: &'static str,
    tokens: Tokens,
}

fn leak(text: String) -> &'static str {
    Box::leak(text.into_boxed_str())
}

fn sources(directories: &[&str]) -> Vec<Source> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let mut found = Vec::new();
    for directory in directories {
        collect(root, &root.join(directory), &mut found);
    }
    assert!(!found.is_empty(), "no source below {}", root.display());
    found.sort_by_key(|source| source.path);
    found
}

fn collect(root: &Path, directory: &Path, found: &mut Vec<Source>) {
    let Ok(entries) = fs::read_dir(directory) else {
        return; // A packaged crate lacks the directories of the other members.
    };
    for entry in entries {
        let path = entry.expect("the directory can be read").path();
        if path.is_dir() && !path.ends_with("target") {
            collect(root, &path, found);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let text = leak(fs::read_to_string(&path).expect("a source file is UTF-8"));
            let below = path.strip_prefix(root).expect("the walk began at the root");
            let path = leak(below.display().to_string().replace('\\', "/"));
            found.push(Source {
                path,
                text,
                tokens: Tokens::of(text),
            });
        }
    }
}

/// The sources of the library, without their tests.
fn production() -> Vec<Source> {
    let mut sources = sources(&["src"]);
    sources.retain(|source| !source.path.ends_with("/tests.rs"));
    for source in &mut sources {
        source.tokens = without_tests(std::mem::take(&mut source.tokens));
    }
    sources
}

/// `src/a/b.rs` and `src/a/b/mod.rs` are both `crate::a::b`; `src/lib.rs` is `crate`.
fn module_of(path: &str) -> String {
    let mut parts: Vec<_> = path.trim_end_matches(".rs").split('/').collect();
    parts[0] = "crate";
    parts.retain(|part| !["mod", "lib"].contains(part));
    parts.join("::")
}

// ---- tests of the above ----

#[test]
fn comments_and_literals_are_no_tokens() {
    let text = r##"a // b"
        /* c */ "d\" e" r#"f" g"# b'h' '\'' '"' <'i> "##;
    let tokens = Tokens::of(text);
    assert_eq!(tokens.words.concat(), "ab<'i>");
    assert_eq!(tokens.lines, [1, 2, 2, 2, 2, 2]);
}

#[test]
fn functions_are_measured_to_their_closing_brace() {
    let text = "trait T { fn a() -> [u8; 2]; }\nfn b<F: Fn() -> fn(u8)>(f: F) {\n fn c() {}\n}";
    assert_eq!(functions(&Tokens::of(text)), [("b", 2, 3), ("c", 3, 1)]);
}

#[test]
fn paths_are_taken_from_groups_and_told_from_the_crate() {
    let text = "use a::{b::{c, d as e}, self}; pub(in crate::x) mod m { super::y::<crate::z>(); }";
    let mut found = paths(&Tokens::of(text), "crate::p");
    found.retain(|(_, path)| path.contains("::"));
    let found: Vec<_> = found.into_iter().map(|(_, path)| path).collect();
    assert_eq!(
        found.join(" "),
        "a::b::c a::b::d a::self crate::p::y crate::z"
    );
    let found = paths(&Tokens::of("; ::a::b"), "crate");
    assert_eq!(found, [(1, "a::b".to_owned())]);
    assert_eq!(from_crate("self::super::x", "crate::a::b"), "crate::a::x");
    assert_eq!(from_crate("super::super::*", "crate::a::b"), "crate::*");
}

#[test]
fn items_under_cfg_test_are_left_out() {
    let text = "a; #[cfg(test)] use t; b; #[cfg(all(test, u))] #[v] mod t {} c { #[cfg(test)] x }";
    assert_eq!(without_tests(Tokens::of(text)).words.concat(), "a;b;c{}");
}

#[test]
fn floors_are_told_from_the_longest_entry() {
    for (from, to, allowed) in [
        ("port::wheel", "net::TcpStream", false),
        ("net", "port::CompletionPort", true),
        ("net::tcp", "time", false),
        ("net::tcp", "net::udp", true),
        ("dispatch::single", "dispatch::work_stealing::Deque", false),
        ("dispatch::single", "dispatch::Worker", true),
        ("dispatch", "dispatch::single::SingleThreaded", true),
        ("port", "SomeReExportOfTheRoot", false),
        ("port", "portable", false),
    ] {
        let fault = import_fault(&format!("crate::{from}"), &format!("crate::{to}"));
        assert_eq!(fault.is_none(), allowed, "{from} to {to}: {fault:?}");
    }
}

#[test]
fn commands_are_read_from_shell_blocks() {
    let page = "```sh\n# a\nb c # d\n```\ne\n```console\n$ f\ng\n```\n```rust\nh\n```";
    assert_eq!(commands(page), [(3, "b c".to_owned()), (7, "f".to_owned())]);
}
