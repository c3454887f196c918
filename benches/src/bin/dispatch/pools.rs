//! Who runs posted calls: the proactor, and what every competitor has to offer.

use proactor::{Proactor, Strand};

/// The calls of one strand so far, which only one of them at a time may touch.
#[derive(Debug, Default)]
pub(crate) struct Line {
    pub(crate) next: usize,
}

/// Something that runs calls on threads of its own. It is never taken down: the process ends.
pub(crate) trait Pool: Sync + Sized + 'static {
    type Strand: Send + Sync + 'static;
    /// From outside, and from within a call.
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F);
    fn strand(&'static self) -> Self::Strand;
    /// Calls of one strand run one at a time, in the order of their posting.
    fn post_to<F>(&'static self, strand: &Self::Strand, call: F)
    where
        F: FnOnce(&mut Line) + Send + 'static;
}

impl Pool for Proactor {
    type Strand = Strand<Line>;

    #[inline]
    fn post<F: FnOnce() + Send + 'static>(&'static self, call: F) {
        self.port().post(call);
    }

    fn strand(&'static self) -> Strand<Line> {
        Strand::new(self.port(), Line::default())
    }

    #[inline]
    fn post_to<F>(&'static self, strand: &Strand<Line>, call: F)
    where
        F: FnOnce(&mut Line) + Send + 'static,
    {
        strand.post(call);
    }
}
