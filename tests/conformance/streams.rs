//! Streams and sockets: promises 25 to 35.
