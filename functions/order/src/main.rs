//! The order function.
fn main() {}
