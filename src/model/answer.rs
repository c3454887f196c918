//! An operation that repeats, in what a model deals in: what `net::replying` is over sockets.

use super::{ModelObject, Witness};
use crate::error::Error;
use crate::id::Kind;
use crate::initiation::Initiation;
use crate::operation::{Operation, Request, TurnOf, code, sealed};
use crate::port::repeat::{self, Came, Turn, Turns};

/// What is to be done about the units that came: see `net::Reply`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// Nothing is given.
    Nothing,
    /// So many units are given.
    Give(usize),
    /// So many units are given, and that was the last.
    Last(usize),
    /// Nothing is given, and that was the last.
    End,
}

/// The operation of [`ModelObject::answering`].
#[derive(Debug)]
pub struct AnswerEach<F> {
    len: usize,
    /// What is being given, if not all of it could be given at once.
    rest: Option<Rest>,
    each: F,
    memory: Witness,
}

#[derive(Clone, Copy, Debug)]
struct Rest {
    len: usize,
    done: usize,
    last: bool,
}

impl<F> AnswerEach<F> {
    fn script(&self, len: usize, write: bool) -> Request {
        Request::Script {
            len,
            write,
            memory: (&raw const self.memory).cast(),
        }
    }
}

impl<F> sealed::Sealed for AnswerEach<F> {}

impl<F: FnMut(usize) -> Answer + Send + 'static> Operation for AnswerEach<F> {
    /// With how many units the answer had that was not given whole, if there is one.
    type Output = (Result<(), Error>, Option<usize>);
    const KIND: Kind = Kind::Read;
    const TURN: Option<TurnOf<Self>> = Some(repeat::turn::<Self>);

    fn request(&mut self) -> Request {
        match self.rest {
            None => self.script(self.len, false),
            Some(rest) => self.script(rest.len - rest.done, true),
        }
    }

    fn advance(&mut self, n: usize) -> bool {
        self.rest.as_mut().is_some_and(|rest| {
            rest.done += n;
            n > 0 && rest.done < rest.len
        })
    }

    fn finish(self, result: Result<usize, Error>) -> Self::Output {
        // The memory goes: nobody may be using it.
        self.memory.touch();
        let result = result.map(|_| ());
        match self.rest {
            None => (result, None),
            Some(rest) => {
                let failed = |error: Error| error.doing(Kind::Write).after(rest.done);
                (result.map_err(failed), Some(rest.len))
            }
        }
    }
}

impl<F: FnMut(usize) -> Answer + Send + 'static> Turns for AnswerEach<F> {
    fn turn(&mut self, came: &mut Came<'_>) -> Turn {
        let already = came.already();
        if let Some(Rest { len, done, last }) = self.rest {
            if already.is_none() {
                return Turn::Unread;
            }
            self.memory.touch();
            if done < len {
                return Turn::Over(code::WRITE_ZERO);
            }
            self.rest = None;
            return if last { Turn::Over(0) } else { Turn::Again };
        }
        let Some(count) = already.or_else(|| came.read((&raw mut self.memory).cast(), self.len))
        else {
            return Turn::Unread;
        };
        // Whose turn it is uses the memory as it likes: nobody else may be using it.
        self.memory.touch();
        if count == 0 {
            return Turn::Over(0);
        }
        let (len, last) = match (self.each)(count) {
            Answer::Nothing => (0, false),
            Answer::End => (0, true),
            Answer::Give(len) => (len, false),
            Answer::Last(len) => (len, true),
        };
        let sent = match len {
            0 => 0,
            _ => came.send((&raw const self.memory).cast(), len),
        };
        let done = usize::try_from(sent).unwrap_or(0);
        if done < len {
            self.rest = Some(Rest { len, done, last });
            return Turn::Writes;
        }
        if last { Turn::Over(0) } else { Turn::Again }
    }
}

impl ModelObject {
    /// To take up to `len` units, give what `each` answers to how many came, and so on, not yet begun.
    pub fn answering<F>(&self, len: usize, each: F) -> Initiation<AnswerEach<F>>
    where
        F: FnMut(usize) -> Answer + Send + 'static,
    {
        let op = AnswerEach {
            len,
            rest: None,
            each,
            memory: Witness::default(),
        };
        Initiation::on_object(&self.0, op)
    }
}
