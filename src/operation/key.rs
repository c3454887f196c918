//! Operations by name.
#![allow(unsafe_code)] // a name that is a pointer, checked before it is followed

use std::fmt;
use std::ptr::NonNull;

use crate::cell::{Home, Ptr, header, phase};

/// One operation that was initiated: what [`CompletionPort::cancel`](crate::CompletionPort::cancel) takes. Two words,
/// `Copy`; it goes stale by itself when the operation is over.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct OperationKey {
    cell: NonNull<()>,
    generation: u32,
    port: u32,
}

// SAFETY: a key is a name; the port that it belongs to checks it before it follows the pointer.
unsafe impl Send for OperationKey {}
// SAFETY: as above.
unsafe impl Sync for OperationKey {}

impl OperationKey {
    #[inline]
    pub(crate) fn of(cell: Ptr, home: &Home) -> Self {
        Self {
            cell: cell.cast(),
            generation: header(cell).generation(),
            port: home.id,
        }
    }

    /// The cell and the generation, if the key is of `home`; the cell's header may be looked at while `home` lives.
    pub(crate) fn resolve(self, home: &Home) -> Option<(Ptr, u32)> {
        (self.port == home.id).then_some((self.cell.cast(), self.generation))
    }

    /// Whether its result is open and nobody has asked it to end, as far as can be seen from here.
    pub(crate) fn is_open(self, home: &Home) -> bool {
        let cell = self.resolve(home);
        cell.is_some_and(|(cell, generation)| {
            [phase::PENDING, phase::ARMED]
                .iter()
                .any(|&open| header(cell).is(generation, open))
        })
    }
}

impl fmt::Debug for OperationKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "OperationKey({:x}.{})",
            self.cell.as_ptr().addr(),
            self.generation
        )
    }
}
