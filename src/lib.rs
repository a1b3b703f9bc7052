//! raftkv (essay to be written with the nine steps of a PUT)

pub mod api;
pub mod base;
pub mod disk;
pub mod raft;
