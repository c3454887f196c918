//! Timers: promises 17 to 24.
