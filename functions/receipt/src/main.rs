//! The receipt function.
fn main() {}
