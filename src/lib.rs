//! Portcullis answers one question for a reverse proxy, thousands of times a second: may this request
//! pass, and as whom?
//!
//! The rooms, in reading order; each imports only from those above it (`tests/rooms.rs`).

pub mod address;
pub mod clock;
pub mod fault;
pub mod object;
pub mod peer;
pub mod secret;
pub mod subject;
pub mod trust;
pub mod watch;
pub mod work;

pub mod factor;
pub mod policy;
pub mod regulation;

pub mod identity;
pub mod session;

pub mod signin;

pub mod telemetry;

pub mod authz;
pub mod doctor;
pub mod portal;

pub mod config;

pub mod cli;
pub mod server;
