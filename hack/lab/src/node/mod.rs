//! The simulated Talos node.

pub mod cli;
