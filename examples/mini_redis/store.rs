//! The keys and their values: shards, each under a lock of its own, and a timer of the proactor for each key that expires.

use std::io::Write;
use std::sync::Arc;
use std::time::{Duration, Instant};

// Keys come from clients, who may mean ill: a hasher with keys of its own, of which the system chooses anew each time.
use ahash::{AHashMap, RandomState};
use parking_lot::Mutex;
use proactor::{CompletionPort, OperationKey};

/// Enough that two threads seldom meet.
const SHARDS: usize = 64;

/// A cheap handle to all keys.
#[derive(Clone)]
pub(crate) struct Store(Arc<Inner>);

struct Inner {
    port: CompletionPort,
    hasher: RandomState,
    shards: [Shard; SHARDS],
}

/// On cache lines of its own: two threads write to two shards.
#[repr(align(128))]
#[derive(Default)]
struct Shard(Mutex<AHashMap<Box<[u8]>, Value>>);

struct Value {
    bytes: Vec<u8>,
    expiry: Option<Expiry>,
}

/// When a value goes, and the timer that has it go.
#[derive(Clone, Copy)]
struct Expiry {
    at: Instant,
    timer: OperationKey,
}

/// Why a value cannot be counted up.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Uncountable {
    NotANumber,
    Overflow,
}

/// How long a key has to live.
#[derive(Clone, Copy, Debug, Eq, PartialEq)]
pub(crate) enum Life {
    NoSuchKey,
    ForEver,
    Left(Duration),
}

impl Value {
    fn is_over(&self) -> bool {
        self.expiry
            .is_some_and(|expiry| expiry.at <= Instant::now())
    }
}

impl Store {
    pub(crate) fn new(port: &CompletionPort) -> Self {
        Self(Arc::new(Inner {
            port: port.clone(),
            hasher: RandomState::new(),
            shards: std::array::from_fn(|_| Shard::default()),
        }))
    }

    fn shard(&self, key: &[u8]) -> &Mutex<AHashMap<Box<[u8]>, Value>> {
        let hash = self.0.hasher.hash_one(key);
        &self.0.shards[(hash >> 32) as usize % SHARDS].0
    }

    /// Calls `read` with the value of `key`. That value is locked meanwhile.
    pub(crate) fn get<R>(&self, key: &[u8], read: impl FnOnce(Option<&[u8]>) -> R) -> R {
        let shard = self.shard(key).lock();
        let value = shard.get(key).filter(|value| !value.is_over());
        read(value.map(|value| value.bytes.as_slice()))
    }

    /// Sets `key`, for as long as `life` says or for ever. False if the clock does not reach so far.
    pub(crate) fn set(&self, key: &[u8], bytes: &[u8], life: Option<Duration>) -> bool {
        let mut shard = self.shard(key).lock();
        let expiry = match life.map(|life| self.expiry(key, life)) {
            Some(None) => return false,
            expiry => expiry.flatten(),
        };
        if let Some(value) = shard.get_mut(key) {
            self.forget(value.expiry.take());
            value.bytes.clear();
            value.bytes.extend_from_slice(bytes);
            value.expiry = expiry;
        } else {
            let bytes = bytes.to_vec();
            shard.insert(key.into(), Value { bytes, expiry });
        }
        true
    }

    /// True if there was such a key.
    pub(crate) fn delete(&self, key: &[u8]) -> bool {
        let removed = self.shard(key).lock().remove(key);
        let Some(value) = removed else {
            return false;
        };
        self.forget(value.expiry);
        !value.is_over()
    }

    pub(crate) fn count_up(&self, key: &[u8]) -> Result<i64, Uncountable> {
        let mut shard = self.shard(key).lock();
        let Some(value) = shard.get_mut(key).filter(|value| !value.is_over()) else {
            let (bytes, expiry) = (b"1".to_vec(), None);
            shard.insert(key.into(), Value { bytes, expiry });
            return Ok(1);
        };
        let number = number(&value.bytes).ok_or(Uncountable::NotANumber)?;
        let next = number.checked_add(1).ok_or(Uncountable::Overflow)?;
        value.bytes.clear();
        let _ = write!(value.bytes, "{next}"); // A vector takes everything.
        Ok(next)
    }

    /// Lets `key` live that long from now. `None` if the clock does not reach so far; else whether there is such a key.
    pub(crate) fn expire(&self, key: &[u8], life: Duration) -> Option<bool> {
        let mut shard = self.shard(key).lock();
        let Some(value) = shard.get_mut(key).filter(|value| !value.is_over()) else {
            return Some(false);
        };
        let expiry = self.expiry(key, life)?;
        self.forget(value.expiry.replace(expiry));
        Some(true)
    }

    pub(crate) fn life(&self, key: &[u8]) -> Life {
        let shard = self.shard(key).lock();
        match shard.get(key).filter(|value| !value.is_over()) {
            None => Life::NoSuchKey,
            Some(Value { expiry: None, .. }) => Life::ForEver,
            Some(Value {
                expiry: Some(expiry),
                ..
            }) => Life::Left(expiry.at.saturating_duration_since(Instant::now())),
        }
    }

    /// A timer that takes `key` away. It looks again when it expires: a key that was set anew has another.
    fn expiry(&self, key: &[u8], life: Duration) -> Option<Expiry> {
        let at = Instant::now().checked_add(life)?;
        let store = self.clone();
        let key: Box<[u8]> = key.into();
        let timer = self.0.port.sleep_until(at).then(move |slept| {
            if slept.is_ok() {
                store.remove_if_over(&key);
            }
        });
        Some(Expiry { at, timer })
    }

    fn remove_if_over(&self, key: &[u8]) {
        let mut shard = self.shard(key).lock();
        if shard.get(key).is_some_and(Value::is_over) {
            shard.remove(key);
        }
    }

    fn forget(&self, expiry: Option<Expiry>) {
        if let Some(expiry) = expiry {
            // Too late is as good: it finds another deadline, or none.
            self.0.port.cancel(expiry.timer);
        }
    }
}

/// The number that a value says, if it says one just as this program would write it.
pub(crate) fn number(bytes: &[u8]) -> Option<i64> {
    match bytes {
        b"0" | [b'1'..=b'9', ..] | [b'-', b'1'..=b'9', ..] => {
            std::str::from_utf8(bytes).ok()?.parse().ok()
        }
        _ => None,
    }
}
