//! One test program for the whole system, so that it is linked once.

mod crash;
mod world;
