//! One test program for the whole system, so that it is linked once.

mod chain;
mod costs;
mod crash;
mod world;
