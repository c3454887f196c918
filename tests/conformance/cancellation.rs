//! Cancellation and time limits: promises 36 to 40.
