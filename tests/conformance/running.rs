//! Running: promises 1 to 9.
