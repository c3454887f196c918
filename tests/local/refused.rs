//! What the compiler refuses, each misuse beside its cure.

use crate::outside::{compiles, refused};

/// What is the same in a misuse and its cures.
fn counting(proactor: &str, state: &str, change: &str) -> String {
    format!(
        "#![allow(unused_imports)]\n\
         use proactor::{{LocalProactor, Proactor}};\n\
         use std::{{cell::Cell, rc::Rc, sync::{{Arc, atomic::{{AtomicUsize, Ordering}}}}}};\n\
         pub fn count(proactor: &{proactor}) {{\n\
             let calls = {state};\n\
             proactor.post(move || {{ {change}; }});\n\
         }}\n"
    )
}

#[test]
fn a_proactor_refuses_a_handler_that_must_stay_on_its_thread() {
    let unlocked = ["Rc::new(Cell::new(0))", "calls.set(calls.get() + 1)"];
    let said = refused(&counting("Proactor", unlocked[0], unlocked[1]), "E0277");
    let reason = "`Rc<Cell<i32>>` cannot be sent between threads safely";
    assert!(said.contains(reason), "{said}");
    compiles(&counting("LocalProactor", unlocked[0], unlocked[1]));
    let atomic = [
        "Arc::new(AtomicUsize::new(0))",
        "calls.fetch_add(1, Ordering::Relaxed)",
    ];
    compiles(&counting("Proactor", atomic[0], atomic[1]));
}

#[test]
fn an_operation_refuses_it_too_unless_the_handler_is_bound_here() {
    let reading = |binding: &str| {
        format!(
            "use proactor::{{LocalPort, net::TcpStream}};\n\
             use std::{{cell::RefCell, rc::Rc}};\n\
             pub fn hear(_local: &LocalPort, stream: &TcpStream, heard: Rc<RefCell<Vec<u8>>>) {{\n\
                 stream.read(vec![0; 64]){binding}.then(move |(_, buf)| *heard.borrow_mut() = buf);\n\
             }}\n"
        )
    };
    let said = refused(&reading(""), "E0277");
    let reason = "cannot be sent between threads safely";
    assert!(said.contains(reason), "{said}");
    compiles(&reading(".here(_local)"));
}

/// `$given` goes to another thread, where `$used` is done with it.
fn sent(given: &str, used: &str) -> String {
    format!(
        "use proactor::LocalProactor;\n\
         pub fn elsewhere(local: LocalProactor) {{\n\
             let given = {given};\n\
             std::thread::spawn(move || {{ {used}; }});\n\
         }}\n"
    )
}

#[test]
fn a_local_proactor_does_not_leave_its_thread_nor_does_its_port_nor_what_is_bound_to_it() {
    for (given, used) in [
        ("local", "given.run()"),
        ("local.port().clone()", "given.post(|| ())"),
        ("local.sleep(std::time::Duration::ZERO)", "given.wait()"),
    ] {
        let said = refused(&sent(given, used), "E0277");
        let reason = "`Rc<proactor::local_proactor::table::Table>` cannot be sent between threads";
        assert!(said.contains(reason), "{given}: {said}");
    }
    // Built there, or with what is for others.
    compiles(&sent(
        "drop(local)",
        "let () = given; LocalProactor::new().unwrap().run()",
    ));
    compiles(&sent("local.remote().clone()", "given.post(|| ())"));
    compiles(&sent("local.guard()", "drop(given)"));
}

#[test]
fn a_handler_cannot_borrow_what_may_be_gone_when_it_runs() {
    let counting = |capture: &str| {
        format!(
            "use proactor::LocalProactor;\n\
             use std::{{cell::Cell, rc::Rc}};\n\
             pub fn count(local: &LocalProactor) -> u32 {{\n\
                 let calls = Rc::new(Cell::new(0));\n\
                 let counted = {capture};\n\
                 local.post(move || counted.set(1));\n\
                 local.run();\n\
                 calls.get()\n\
             }}\n"
        )
    };
    refused(&counting("&calls"), "E0597");
    compiles(&counting("Rc::clone(&calls)"));
}
