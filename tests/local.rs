//! One thread's handlers, which need not be `Send`: what the compiler refuses, and what compiles in its place.
#![cfg(not(proactor_loom))]

#[path = "common/outside.rs"]
mod outside;
#[path = "common/process.rs"]
mod process;

use outside::{compiles, refused};

/// What is the same in a misuse and its cures.
fn counting(state: &str, change: &str, post: &str) -> String {
    format!(
        "#![allow(unused_imports)]\n\
         use proactor::Proactor;\n\
         use std::{{cell::Cell, rc::Rc, sync::{{Arc, atomic::{{AtomicUsize, Ordering}}}}}};\n\
         pub fn count(proactor: &Proactor) {{\n\
             let calls = {state};\n\
             {post}(move || {{ {change}; }});\n\
         }}\n"
    )
}

#[test]
fn a_proactor_refuses_a_handler_that_must_stay_on_its_thread() {
    let said = refused(
        &counting(
            "Rc::new(Cell::new(0))",
            "calls.set(calls.get() + 1)",
            "proactor.post",
        ),
        "E0277",
    );
    assert!(
        said.contains("`Rc<Cell<i32>>` cannot be sent between threads safely"),
        "{said}"
    );
    compiles(&counting(
        "Arc::new(AtomicUsize::new(0))",
        "calls.fetch_add(1, Ordering::Relaxed)",
        "proactor.post",
    ));
}
