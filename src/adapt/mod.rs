//! What the ecosystem's libraries ask of whoever runs them, each behind a feature of its own; without one there is nothing here.
//!
//! | to run | have |
//! |---|---|
//! | hyper, hyper-util, axum | the feature `hyper`, and the module of that name |
//! | a tower service under hyper | hyper-util's `TowerToHyperService`; nothing is needed from here |
//! | what asks for futures-io | nothing: the streams implement its traits |
//! | what asks for tokio's `AsyncRead` and `AsyncWrite` | `tokio_util::compat`, over the futures-io of the streams |
//!
//! What asks for tokio's *runtime* (its `spawn`, its timers, its sockets) needs that runtime, which may run beside a proactor.
//!
//! A stream for what reads and writes by tokio's traits:
//!
//! ```
//! use proactor::{Proactor, net::{TcpListener, TcpStream}};
//! use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader};
//! use tokio_util::compat::FuturesAsyncReadCompatExt;
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let proactor = Proactor::builder().build()?;
//! let listener = TcpListener::bind(&proactor, "127.0.0.1:0".parse()?)?;
//! let line = proactor.block_on(async {
//!     let client = TcpStream::connect(&proactor, listener.local_addr()?).await?;
//!     let (server, _) = listener.accept().await?;
//!     server.compat().write_all(b"hello\nworld\n").await?;
//!     let mut line = String::new();
//!     BufReader::new(client.compat()).read_line(&mut line).await?;
//!     Ok::<_, std::io::Error>(line)
//! })??;
//! assert_eq!(line, "hello\n");
//! # Ok(())
//! # }
//! ```

#[cfg(feature = "hyper")]
pub mod hyper;
