#![doc = include_str!("../README.md")]

pub mod api;
pub mod batch;
pub mod boot;
pub mod budget;
pub mod http_client;
pub mod settings;
pub mod system;
