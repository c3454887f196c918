//! What is measured runs in a process of its own: here it is started, pinned, read and ended. Linux only.

use std::fs;
use std::io::{self, BufRead, BufReader};
use std::net::{SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Resource, Rlimit, Signal, getrlimit, kill_process, setrlimit};
use rustix::thread::{CpuSet, sched_getaffinity, sched_setaffinity};

/// The processors that this process may use.
///
/// # Errors
///
/// Those of `sched_getaffinity`.
pub fn processors() -> io::Result<Vec<usize>> {
    let set = sched_getaffinity(None)?;
    Ok(Vec::from_iter(
        (0..CpuSet::MAX_CPU).filter(|&cpu| set.is_set(cpu)),
    ))
}

/// Lets this thread, and what it starts from now on, run on those processors only.
///
/// # Errors
///
/// Those of `sched_setaffinity`: a processor that is not there.
pub fn pin(processors: &[usize]) -> io::Result<()> {
    let mut set = CpuSet::new();
    for &cpu in processors {
        set.set(cpu);
    }
    sched_setaffinity(None, &set).map_err(|error| {
        io::Error::new(
            error.kind(),
            format!("cannot pin to processors {processors:?}: {error}"),
        )
    })
}

/// Allows this process, and what it starts, as many descriptors as the system lets it have, which must be `least`.
///
/// # Errors
///
/// If it is fewer; the text says what to do.
pub fn raise_descriptors(least: u64) -> io::Result<()> {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    let most = maximum.unwrap_or(u64::MAX);
    // Who may raise the upper limit too, does.
    let wanted = most.max(least);
    let limit = Rlimit {
        current: Some(wanted),
        maximum: maximum.map(|_| wanted),
    };
    setrlimit(Resource::Nofile, limit).map_err(|_| {
        let text = format!("{least} descriptors are needed, and {most} allowed: raise `ulimit -n`");
        io::Error::other(text)
    })
}

/// A server in a process of its own. Dropping it kills it.
#[derive(Debug)]
pub struct Server {
    child: Child,
    address: SocketAddr,
}

impl Server {
    /// Starts it on those processors, and waits for its line `listening on ADDRESS`. The calling thread stays pinned there.
    ///
    /// # Errors
    ///
    /// If it does not start, or says something else.
    pub fn start(mut command: Command, processors: &[usize]) -> io::Result<Self> {
        pin(processors)?;
        let named = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start {named}: {error}"))
            })?;
        let mut line = String::new();
        if let Some(stdout) = child.stdout.as_mut() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        match line.trim().strip_prefix("listening on ").map(str::parse) {
            Some(Ok(address)) => Ok(Self { child, address }),
            _ => {
                let _ = child.kill();
                let status = child.wait()?;
                let text =
                    format!("{named} did not say `listening on ADDRESS` but {line:?} ({status})");
                Err(io::Error::other(text))
            }
        }
    }

    /// Starts one that says nothing, on all processors, and waits until it accepts connections at `address`, for at most ten seconds.
    ///
    /// # Errors
    ///
    /// If it does not start, ends, or nobody accepts connections there in time.
    pub fn start_at(mut command: Command, address: SocketAddr) -> io::Result<Self> {
        pin(&processors()?)?;
        let named = format!("{command:?}");
        let starting = command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .spawn()
            .map_err(|error| {
                io::Error::new(error.kind(), format!("cannot start {named}: {error}"))
            })?;
        let mut server = Self {
            child: starting,
            address,
        };
        let deadline = Instant::now() + Duration::from_secs(10);
        while Instant::now() < deadline {
            server.check()?;
            if TcpStream::connect(address).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        let text = format!("{named} does not accept connections at {address}");
        Err(io::Error::other(text))
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// The id of its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Asks it to end, as an operator does, and waits until it has, for at most a minute.
    ///
    /// # Errors
    ///
    /// If it does not end by itself, or not with 0.
    pub fn stop(mut self) -> io::Result<()> {
        kill_process(Pid::from_child(&self.child), Signal::TERM)?;
        let deadline = Instant::now() + Duration::from_secs(60);
        while Instant::now() < deadline {
            match self.child.try_wait()? {
                Some(status) if status.success() => return Ok(()),
                Some(status) => {
                    return Err(io::Error::other(format!("the server ended with {status}")));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        Err(io::Error::other("the server does not end when asked to"))
    }

    /// Its processor time until now, user and system, of all its threads that live. Exact while none of them runs.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`; a kernel without `schedstat`.
    pub fn processor_time(&self) -> io::Result<Duration> {
        let mut total = 0;
        for task in fs::read_dir(format!("/proc/{}/task", self.child.id()))? {
            let text = fs::read_to_string(task?.path().join("schedstat"))?;
            let ran = text
                .split(' ')
                .next()
                .and_then(|first| first.parse::<u64>().ok());
            total += ran.ok_or_else(|| io::Error::other(format!("not a schedstat: {text:?}")))?;
        }
        Ok(Duration::from_nanos(total))
    }

    /// The memory that it alone holds, in bytes: its private pages, without what it shares with others.
    ///
    /// # Errors
    ///
    /// Those of reading `/proc`.
    pub fn private_memory(&self) -> io::Result<u64> {
        let text = fs::read_to_string(format!("/proc/{}/smaps_rollup", self.child.id()))?;
        let kilobytes = text.lines().filter_map(|line| {
            let rest = line
                .strip_prefix("Private_Clean:")
                .or(line.strip_prefix("Private_Dirty:"))?;
            rest.trim().strip_suffix(" kB")?.parse::<u64>().ok()
        });
        Ok(kilobytes.sum::<u64>() * 1024)
    }

    /// Whether it still runs; otherwise how it ended.
    ///
    /// # Errors
    ///
    /// If it does not run any more.
    pub fn check(&mut self) -> io::Result<()> {
        match self.child.try_wait()? {
            None => Ok(()),
            Some(status) => Err(io::Error::other(format!("the server ended: {status}"))),
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Has this process killed when the one that started it ends, so that no server outlives a measurement.
///
/// # Errors
///
/// Those of `prctl`.
pub fn end_with_parent() -> io::Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    Ok(())
}
