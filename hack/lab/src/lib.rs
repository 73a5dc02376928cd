//! The laboratory: what a person without an ESXi host needs to build, try and test talos-vmtoolsd.
//!
//! - [`vmx`] runs an unmodified Linux program as the guest of a simulated VMware host: its backdoor instructions and
//!   its CPUID are answered through ptrace.
//! - [`mod@bench`] measures the daemon in it, beside other agents.
//! - [`node`] serves the Talos machine API of a simulated node on a unix socket.
//!
//! Nothing in here makes life easier for the program under test than a real host would: it is not told that it is
//! tested.

pub mod bench;
pub mod demo;
pub mod node;
pub mod pb;
pub mod vmx;

pub use image::daemon;
