//! What is measured and what is logged, each named once.
//!
//! Every room from the keepers up may call this one; it calls nobody. Labels come from closed sets,
//! never from what a stranger sent; no secret is ever an argument here.

pub mod log;
pub mod metrics;
