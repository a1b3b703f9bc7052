//! Layer 5: the command line.
pub mod node_args;
pub mod peers;
