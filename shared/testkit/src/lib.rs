#![doc = include_str!("../README.md")]
#![allow(
    clippy::arithmetic_side_effects,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    clippy::unwrap_used,
    reason = "only tests link this crate, and there a panic at the right line is the best answer"
)]

#[cfg(feature = "functions")]
pub mod aws;
pub mod builders;
#[cfg(feature = "functions")]
pub mod conformance;
#[cfg(feature = "functions")]
pub mod events;
#[cfg(feature = "functions")]
pub mod lambda;
pub mod logs;
pub mod memory;
pub mod network;
pub mod world;
