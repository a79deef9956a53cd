//! One test program for the whole system, so that it is linked once.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::arithmetic_side_effects,
    clippy::as_conversions,
    clippy::print_stdout,
    reason = "a test program: what is not as expected ends the test, and measured figures are printed"
)]

mod billdesk;
mod binaries;
mod chain;
mod changes;
mod costs;
mod crash;
mod documents;
mod fallback;
mod hostile;
mod matrix;
mod meta;
mod payu;
#[cfg(feature = "stack")]
mod stack;
mod template;
mod world;
