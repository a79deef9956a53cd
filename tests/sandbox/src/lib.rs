#![doc = include_str!("../README.md")]

mod calendar;
mod control;
mod desk;
mod faults;
mod http;
mod jose;
mod sender;
mod server;
mod sign;
mod strict;
mod vendors;

pub use server::{Sandbox, serve};
