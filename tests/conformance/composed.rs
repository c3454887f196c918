//! Composed operations: promises 41 to 43.
