//! The create-invoice function.
fn main() {}
