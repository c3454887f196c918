//! Strands: promises 10 to 16.
