//! The simulated hypervisor.
//!
//! ```text
//!  guest program --SIGSEGV on IN/INS/OUTS, CPUID--> tracer --Registers--> host (a Device) --messages--> scenario
//! ```

pub mod cli;
pub mod cpuid;
pub mod device;
pub mod guard;
pub mod isolation;
pub mod measure;
pub mod memory;
pub mod tracer;
