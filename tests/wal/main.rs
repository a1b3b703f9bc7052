//! The write-ahead log through its real recovery, on a disk in memory that forgets, tears and fails on demand.
//!
//! `torn`: writes that did not finish. `damage`: what was durable and is wrong. `power`: a workload that is cut off at
//! every operation. `faults`: operations that fail. `reading`: rollover, readers, memory. `repair`: what was lost is
//! put back.

mod damage;
mod faults;
mod power;
mod reading;
mod repair;
mod scrub;
mod space;
mod support;
mod torn;
mod truth;
