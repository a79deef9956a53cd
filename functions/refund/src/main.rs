//! The refund function.
fn main() {}
