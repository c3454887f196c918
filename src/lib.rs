#![doc = include_str!("../README.md")]
//!
//! # Where to begin
//!
//! [`Proactor::builder`] builds; [`net`] and [`time`] initiate operations; [`Initiation`] completes them; [`dispatch`] has the
//! strategies, and [`conformance`] checks one of your own; [`CompletionPort`] is for those who bring threads of their own.

// The models leave parts of the house out, and where there is no epoll no foreign loop can be served.
#![cfg_attr(
    any(proactor_loom, polling_test_poll_backend, not(target_os = "linux")),
    allow(dead_code)
)]

/// The page's programs run as tests.
#[cfg(doctest)]
#[doc = include_str!("../docs/futures.md")]
mod page_of_futures {}

#[cfg(not(proactor_loom))]
pub mod adapt;
mod backend;
mod blocking;
mod buf;
mod builder;
mod cell;
mod completion;
pub mod conformance;
pub mod dispatch;
mod error;
mod group;
mod id;
mod initiation;
mod local;
#[cfg(not(proactor_loom))]
mod local_proactor;
#[cfg(proactor_loom)]
#[doc(hidden)]
pub mod model;
#[cfg(not(proactor_loom))]
pub mod net;
mod operation;
mod port;
mod pressure;
mod proactor;
mod queue;
mod spawn;
mod strand;
mod sync;
pub mod time;
mod work;

pub use crate::backend::{BackendKind, ParseBackendError};
pub use crate::blocking::Blocking;
pub use crate::buf::{Buf, BufMut, BufferPool, LateBuf, PooledBuf, Slice};
pub use crate::builder::Builder;
pub use crate::completion::Completion;
pub use crate::dispatch::{ParseStrategyError, Strategy};
pub use crate::error::{BuildError, Error, ErrorKind, Full, NoWorker};
pub use crate::group::{Both, Finished, Success};
pub use crate::id::{Kind, ObjectId};
pub use crate::initiation::{Initiation, InitiationFuture, Unbound, WAIT_DEPTH};
#[cfg(not(proactor_loom))]
pub use crate::local_proactor::{Here, LocalBuilder, LocalJoinHandle, LocalPort, LocalProactor};
pub use crate::operation::{
    Already, Call, Due, Envelope, Operation, OperationKey, Parts, Request, Returned, TurnOf,
};
pub use crate::port::compose::{Completer, Composed};
pub use crate::port::permits::blocking_section;
pub use crate::port::pool::{PanicHook, PanicPolicy};
pub use crate::port::seat::{Batch, Seat};
pub use crate::port::token::CancelToken;
pub use crate::port::{CancelOutcome, CompletionPort};
pub use crate::proactor::{Proactor, ShutdownReport, WorkGuard};
pub use crate::spawn::JoinHandle;
pub use crate::strand::{On, Strand, WeakStrand};
