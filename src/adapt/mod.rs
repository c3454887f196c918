//! What the ecosystem's libraries ask of whoever runs them, each behind a feature of its own; without one there is nothing here.
//!
//! | to run | have |
//! |---|---|
//! | hyper, hyper-util, axum | the feature `hyper`: [`hyper`](self::hyper) |
//! | a tower service under hyper | hyper-util's `TowerToHyperService`; nothing is needed from here |
//! | what asks for futures-io | nothing: the streams implement its traits |
//! | what asks for tokio's `AsyncRead` and `AsyncWrite` | `tokio_util::compat`, over the futures-io of the streams |
//!
//! What asks for tokio's *runtime* (its `spawn`, its timers, its sockets) needs that runtime, which may run beside a proactor.

#[cfg(feature = "hyper")]
pub mod hyper;
