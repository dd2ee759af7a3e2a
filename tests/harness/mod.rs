//! What integration tests share: the real binary and its neighbours on loopback, a client and an application that see
//! every byte, certificates, free ports.
//!
//! Nothing here waits for a fixed time: what is not ready is asked again until a deadline. What a test starts ends with
//! it, and its log is printed if the test fails.
#![allow(dead_code, reason = "each test program uses a part of it")]
#![allow(clippy::expect_used, clippy::indexing_slicing, clippy::panic, reason = "what can't be started fails the test")]

pub mod application;
pub mod certificates;
pub mod client;
pub mod http1;
pub mod portcullis;
pub mod process;
pub mod proxy;
pub mod redis;
#[macro_use]
pub mod stand;
pub mod stranger;
