//! Cancelling many operations at once: tokens, and the tree that they form.
//!
//! A token keeps the keys of the operations that were initiated with it. A key goes stale by itself when its operation is
//! over, so nothing is taken out at an operation's end; when the keys have doubled in number, the stale ones are swept.
//! Protocol: `docs/dispatch-protocols.md`, "A token".

use std::fmt;

use super::{CompletionPort, Inner};
use crate::cell::phase;
use crate::operation::OperationKey;
use crate::sync::{Arc, Mutex, Weak, mutant};

/// Asks any number of operations to end, from any thread: those that were initiated with
/// [`cancel_with`](crate::Initiation::cancel_with), and what is initiated with it later. A cheap clone of the same token.
///
/// Tokens form a tree: a [`child`](Self::child) is cancelled with its parent, not the parent with its child. It may be of several ports.
/// Each operation's output says what became of it, as with [`CompletionPort::cancel`](crate::CompletionPort::cancel).
/// Initiating with a token allocates nothing once warm.
///
/// ```
/// use proactor::{CancelToken, Proactor};
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let all = CancelToken::new();
/// let connection = all.child();
/// let hour = Duration::from_secs(3600);
/// proactor.sleep(hour).cancel_with(&connection).then(|result| assert!(result.unwrap_err().is_cancelled()));
/// all.cancel();
/// assert!(connection.is_cancelled());
/// proactor.sleep(hour).cancel_with(&connection).then(|result| assert!(result.is_err())); // at once
/// assert_eq!(proactor.run(), 2);
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct CancelToken(Arc<Shared>);

#[derive(Default)]
struct Shared(Mutex<State>);

#[derive(Default)]
struct State {
    cancelled: bool,
    watched: Vec<Watched>,
    /// Kept for as long as they have a handle or an operation.
    children: Vec<Arc<Shared>>,
    /// How many children there may be before the idle are swept.
    most_children: usize,
}

impl Shared {
    /// Whether a parent must keep it: somebody may initiate with it or a descendant, or has done so. Not by recursion, since a tree
    /// may be deep.
    fn is_needed(self: &Arc<Self>) -> bool {
        let handles = |token: &Arc<Self>, known: usize| Arc::strong_count(token) > known;
        if handles(self, 1) {
            return true;
        }
        let mut next = self.look(|state| state.children.clone());
        while let Some(token) = next.pop() {
            // Its parent's, and the one in hand.
            if handles(&token, 2) {
                return true;
            }
            next.extend(token.look(|state| state.children.clone()));
            if token.look(State::has_open) {
                return true;
            }
        }
        self.look(State::has_open)
    }

    fn look<R>(&self, f: impl FnOnce(&mut State) -> R) -> R {
        f(&mut self.0.lock())
    }
}

impl Drop for Shared {
    /// A deep tree goes level by level, not by recursion.
    fn drop(&mut self) {
        let mut next = self.look(|state| std::mem::take(&mut state.children));
        while let Some(token) = next.pop() {
            if Arc::strong_count(&token) == 1 {
                next.extend(token.look(|state| std::mem::take(&mut state.children)));
            }
        }
    }
}

impl State {
    fn has_open(&mut self) -> bool {
        self.watched.iter_mut().any(Watched::sweep)
    }
}

/// The operations of one port.
struct Watched {
    /// Which port, without looking at it.
    id: u32,
    port: Weak<Inner>,
    keys: Vec<OperationKey>,
    /// How many keys there may be before the stale are swept.
    most: usize,
}

/// How many are kept before anything is swept.
const FEW: usize = 16;

impl CancelToken {
    /// A token of its own.
    pub fn new() -> Self {
        Self(Arc::new(Shared::default()))
    }

    /// A token that is cancelled with this one; at once, if this one is cancelled already. What was initiated with it is cancelled
    /// also when the child itself was dropped. Dropping the parent cancels nothing.
    #[must_use]
    pub fn child(&self) -> Self {
        let child = Self::new();
        let mut state = self.0.0.lock();
        if state.cancelled && !mutant("child-of-the-cancelled") {
            drop(state);
            child.cancel();
            return child;
        }
        if state.children.len() >= state.most_children {
            state.children.retain(Shared::is_needed);
            state.most_children = (2 * state.children.len()).max(FEW);
        }
        state.children.push(Arc::clone(&child.0));
        drop(state);
        child
    }

    /// Asks every operation of this token and its descendants to end, and what is initiated with them from now on. Runs no handler.
    /// A second call does nothing.
    pub fn cancel(&self) {
        let mut next = vec![Arc::clone(&self.0)];
        while let Some(token) = next.pop() {
            let mut state = token.0.lock();
            if std::mem::replace(&mut state.cancelled, true) {
                continue;
            }
            let watched = std::mem::take(&mut state.watched);
            let children = std::mem::take(&mut state.children);
            // What is asked to end looks for no lock of ours, but whoever finishes it may.
            drop(state);
            for ports in watched {
                ports.cancel(&mut next);
            }
            next.extend(children);
        }
    }

    /// Whether it was cancelled, itself or with an ancestor.
    pub fn is_cancelled(&self) -> bool {
        self.0.0.lock().cancelled
    }

    /// Keeps the key of an operation that is about to be submitted. If the token is cancelled already, asks the operation to end,
    /// which its submission will see.
    pub(crate) fn watch(&self, port: &CompletionPort, key: OperationKey) {
        let inner = &port.0;
        let mut state = self.0.0.lock();
        if state.cancelled && !mutant("token-watches-though-cancelled") {
            drop(state);
            inner.cancel_key(key, phase::CANCEL);
            return;
        }
        let id = inner.home.id;
        let at = state.watched.iter().position(|watched| watched.id == id);
        let at = at.unwrap_or_else(|| {
            state
                .watched
                .retain(|watched| watched.port.strong_count() > 0);
            state.watched.push(Watched {
                id,
                port: Arc::downgrade(inner),
                keys: Vec::with_capacity(FEW),
                most: FEW,
            });
            state.watched.len() - 1
        });
        state.watched[at].add(inner, key);
    }
}

impl Watched {
    fn add(&mut self, inner: &Inner, key: OperationKey) {
        if self.keys.len() >= self.most {
            self.keys.retain(|key| key.is_open(&inner.home));
            self.most = (2 * self.keys.len()).max(FEW);
            // Room for all that may come before the next sweep, so that growth has an end.
            self.keys.reserve(self.most - self.keys.len());
        }
        self.keys.push(key);
    }

    /// Forgets what is over; true if something is not.
    fn sweep(&mut self) -> bool {
        let Some(inner) = self.port.upgrade() else {
            return false;
        };
        self.keys.retain(|key| key.is_open(&inner.home));
        !self.keys.is_empty()
    }

    /// Asks them to end; the tokens of what they are made of go to `next`.
    fn cancel(self, next: &mut Vec<Arc<Shared>>) {
        if let Some(inner) = self.port.upgrade() {
            for key in self.keys {
                let open = key.resolve(&inner.home);
                let parts = open
                    .and_then(|(cell, generation)| inner.ask(cell, generation, phase::CANCEL).1);
                next.extend(parts.map(|CancelToken(parts)| parts));
            }
        }
    }
}

impl Default for CancelToken {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CancelToken {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CancelToken")
            .field("is_cancelled", &self.is_cancelled())
            .finish()
    }
}
