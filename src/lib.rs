//! raftkv (essay to be written with the nine steps of a PUT)

pub mod api;
pub mod base;
pub mod kv;
pub mod net;
pub mod raft;
pub mod wire;
