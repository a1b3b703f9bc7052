//! For whoever starts the servers of `limit` beside others.

pub mod children;
pub mod leftovers;
