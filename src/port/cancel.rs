//! Asking operations to end.

use super::Inner;
use super::timers;
use super::token::CancelToken;
use crate::cell::{Ptr, header, phase};
use crate::id::ObjectId;
use crate::operation::OperationKey;
use crate::queue::List;
use crate::sync::mutant;

/// What became of a request to cancel.
///
/// ```
/// use proactor::{CancelOutcome, Proactor};
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let proactor = Proactor::builder().build()?;
/// let key = proactor.sleep(Duration::from_secs(60)).then(|result| assert!(result.unwrap_err().is_cancelled()));
/// assert_eq!(proactor.cancel(key), CancelOutcome::Requested);
/// assert_eq!(proactor.cancel(key), CancelOutcome::TooLate);
/// proactor.run();
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CancelOutcome {
    /// It was asked to end. Its output says whether it did: an attempt that was under way may still have succeeded.
    Requested,
    /// Its result was fixed already, or somebody asked before.
    TooLate,
}

impl Inner {
    /// Asks an operation to end, as cancelled or as timed out.
    pub(crate) fn cancel(&self, cell: Ptr, generation: u32, how: u64) -> CancelOutcome {
        let (outcome, parts) = self.ask(cell, generation, how);
        if let Some(parts) = parts {
            parts.cancel();
        }
        outcome
    }

    /// As `cancel`, but leaves to the caller what the operation is made of: the token comes back. What is composed of what is
    /// composed may be deep.
    pub(crate) fn ask(
        &self,
        cell: Ptr,
        generation: u32,
        how: u64,
    ) -> (CancelOutcome, Option<CancelToken>) {
        // Whose timer is armed is never again where a request waits to be seen; so not the other way round.
        let armed = header(cell).is(generation, phase::ARMED);
        if armed || !header(cell).request_cancel(generation, how) {
            let Some(done) = timers::cancel(cell, generation, how) else {
                let outcome = match mutant("request-believes-itself") {
                    true => CancelOutcome::Requested,
                    false => CancelOutcome::TooLate,
                };
                return (outcome, None);
            };
            self.complete(done, None);
            return (CancelOutcome::Requested, None);
        }
        // From here on the cell may be somebody else's: what is read is checked again under the lock that decides.
        let object = ObjectId::from_bits(header(cell).data());
        let done = match (object, object.place_by_hand()) {
            (_, Some(place)) => {
                let parts = self.composed.token(cell, generation, place);
                return (CancelOutcome::Requested, parts);
            }
            (ObjectId::TIMER, _) => None, // It is not armed yet, and will not be.
            (ObjectId::BLOCKING, _) => self.lane.cancel(cell, generation),
            (object, _) => self.backend.cancel(cell, generation, object),
        };
        if let Some(done) = done {
            self.complete(done, None);
        }
        (CancelOutcome::Requested, None)
    }

    /// As `cancel`, by the operation's key.
    pub(crate) fn cancel_key(&self, key: OperationKey, how: u64) -> CancelOutcome {
        match key.resolve(&self.home) {
            Some((cell, generation)) => self.cancel(cell, generation, how),
            None => CancelOutcome::TooLate,
        }
    }

    /// Expires timers and limits; finished timers go to `due`.
    pub(crate) fn fire_timers(&self, due: &List) {
        let expired = self.timers.fire(&*self.backend, due);
        expired.each(&self.home, |cell, generation| {
            self.cancel(cell, generation, phase::TIMEOUT);
        });
    }
}
