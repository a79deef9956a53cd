//! The pg-webhook function.
fn main() {}
