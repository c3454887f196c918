//! A cell that the wheel knows: who moves it on has it.

use super::{Header, PHASE, phase};
use crate::sync::atomic::Ordering;

impl Header {
    /// From PENDING to ARMED, if nobody has asked it to end. The phase until now. Release: it is anybody's then.
    pub(crate) fn arm(&self) -> u64 {
        let tenant = self.state.load(Ordering::Relaxed) & !PHASE;
        match self.state.compare_exchange(
            tenant | phase::PENDING,
            tenant | phase::ARMED,
            Ordering::Release,
            Ordering::Relaxed,
        ) {
            Ok(_) => phase::PENDING,
            Err(state) => state & PHASE,
        }
    }

    /// From ARMED to DONE, if the tenant is still that of `generation`: it is the caller's then. Acquire, the other half of `arm`.
    pub(crate) fn disarm(&self, generation: u32) -> bool {
        let tenant = u64::from(generation) << 32;
        self.state
            .compare_exchange(
                tenant | phase::ARMED,
                tenant | phase::DONE,
                Ordering::Acquire,
                Ordering::Relaxed,
            )
            .is_ok()
    }
}
