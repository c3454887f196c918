//! Completions by hand: operations that a thread of one's own completes, and a port whose loop is one's own.
//!
//! ```text
//! cargo run --release --example by_hand
//! ```

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::Duration;

use clap::Parser;
use parking_lot::Mutex;
use proactor::dispatch::SingleThreaded;
use proactor::{Batch, Completer, Completion, CompletionPort, Composed, Initiation, Proactor};

/// Completes operations by hand, and runs a port without a proactor.
#[derive(Parser)]
#[command(name = "by_hand")]
struct Options {
    /// How many calls to post to the port
    #[arg(value_name = "N", default_value_t = 6, value_parser = clap::value_parser!(u64).range(1..=1000))]
    calls: u64,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let options = Options::parse();
    ask_a_device()?;
    run_a_port(options.calls)?;
    Ok(())
}

// ---- operations that another thread completes ----

/// Squares numbers, in whatever order it likes; the table says who waits for what.
struct Device {
    questions: Sender<u32>,
    owed: Arc<Mutex<HashMap<u32, Completer<u32>>>>,
}

impl Device {
    fn start() -> Self {
        let (questions, asked) = mpsc::channel();
        let owed = Arc::default();
        let device = Self {
            questions,
            owed: Arc::clone(&owed),
        };
        thread::spawn(move || {
            // It answers two at a time, the later first. One that is left over it never answers.
            while let (Ok(first), Ok(second)) = (asked.recv(), asked.recv()) {
                for number in [second, first] {
                    let waiting = owed.lock().remove(&number);
                    waiting.expect("it was asked").complete(Ok(number * number));
                }
            }
            owed.lock().clear(); // what it still owes ends as abandoned
        });
        device
    }

    /// An initiation like those of the library: it completes by handler, wait or await, and takes time limits, tokens and strands.
    /// A request to end it would cancel the completer's token, for the device to look at.
    fn ask(&self, port: &CompletionPort, number: u32) -> Initiation<Composed<u32>> {
        let (questions, owed) = (self.questions.clone(), Arc::clone(&self.owed));
        port.compose(move |completer| {
            owed.lock().insert(number, completer);
            questions
                .send(number)
                .expect("it listens as long as there is a sender");
        })
    }
}

fn ask_a_device() -> Result<(), Box<dyn std::error::Error>> {
    let proactor = Proactor::builder()
        .dispatcher(SingleThreaded::new())
        .build()?;
    let device = Device::start();
    for number in 2..=6 {
        let asking = device.ask(proactor.port(), number);
        asking.then(move |answer| match answer {
            Ok(square) => println!("{number} squared is {square}"),
            Err(error) => println!("{number} squared is unknown: {error}"),
        });
    }
    drop(device); // nobody asks any more
    proactor.run();
    Ok(())
}

// ---- a port whose loop is one's own, as I/O completion ports have it ----

const QUIT: u64 = u64::MAX;

fn run_a_port(calls: u64) -> Result<(), Box<dyn std::error::Error>> {
    let port = CompletionPort::new()?;
    let served = thread::scope(|scope| {
        let workers = [(); 2].map(|()| scope.spawn(|| work(&port)));
        for number in 1..=calls {
            port.post_keyed(number, move || println!("call {number}"));
        }
        // What operations finish comes the same way. This one is the last, and lets everybody go.
        let quit = port.clone();
        port.sleep(Duration::from_millis(50))
            .then(move |_| quit.post_keyed(QUIT, || ()));
        workers.map(|worker| worker.join().expect("a worker that does not panic"))
    });
    println!(
        "{} handlers by {} threads",
        served.iter().sum::<u64>(),
        served.len()
    );
    Ok(())
}

/// Takes completions from the port and runs them, until one says that it is over; gives how many it ran.
fn work(port: &CompletionPort) -> u64 {
    let mut batch = Batch::new();
    let (mut ran, mut quit) = (0, false);
    while !quit {
        let mut serve = |completion: Completion| {
            quit |= completion.user_key() == QUIT;
            ran += 1;
            completion.run();
        };
        if let Some(completion) = port.take() {
            serve(completion);
            continue;
        }
        // Nothing is queued: wait for what comes. If as many do as the system lets wait (two on Linux, else one), they are enough.
        let Some(seat) = port.seat() else { return ran };
        if let Err(error) = seat.reap(&mut batch, None) {
            eprintln!("{error}");
            return ran;
        }
        batch.drain().for_each(serve);
    }
    port.post_keyed(QUIT, || ()); // for the next thread
    ran
}
