//! The waits that hyper is given.

use std::future::poll_fn;
use std::task::Poll;
use std::thread;
use std::time::{Duration, Instant};

use hyper::rt::Timer;
use pollster::block_on;
use proactor::{Proactor, Strategy};

#[test]
fn a_wait_of_hypers_is_never_early_can_be_moved_and_ends_with_the_proactor() {
    for strategy in Strategy::ALL {
        let proactor = Proactor::builder().strategy(strategy).build();
        let proactor = proactor.expect("a proactor");
        proactor.start().expect("its threads");
        let timer: &dyn Timer = proactor.port();
        let (begin, short) = (Instant::now(), Duration::from_millis(20));
        block_on(timer.sleep(short));
        assert!(begin.elapsed() >= short, "{strategy}");

        let hour = Duration::from_secs(3600);
        let [mut moved, mut given_up, last] = [(); 3].map(|()| timer.sleep(hour));
        for wait in [&mut moved, &mut given_up] {
            let polled = block_on(poll_fn(|context| Poll::Ready(wait.as_mut().poll(context))));
            assert!(polled.is_pending(), "{strategy}");
        }
        timer.reset(&mut moved, Instant::now() + short);
        let begin = Instant::now();
        block_on(moved);
        assert!(begin.elapsed() >= short, "{strategy}");
        drop(given_up);

        let waiting = thread::spawn(move || block_on(last));
        let report = proactor.shutdown(Instant::now() + short);
        assert_eq!(report.left, 0, "{strategy}");
        drop(proactor);
        waiting.join().expect("it is over");
    }
}
