//! The reconcile function.
fn main() {}
