//! The loop that drives a load, and what it took: for `loadgen`, and for whoever measures something else in the same
//! way.

pub mod descriptors;
pub mod driver;
pub mod history;
pub mod link;
pub mod plan;
pub mod report;
mod resp;
mod timer;
