//! The others: promises 46 to 48.
