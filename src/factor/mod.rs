//! What proves who somebody is: one file for each kind of authenticator.
//!
//! Pure: what was shown and what is stored in, a proof or nothing out. A proof can be made nowhere else,
//! so a function that asks for one can't run without the check. Nothing here does IO, waits or logs.

pub mod password;
