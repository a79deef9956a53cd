//! The send-status function.
fn main() {}
