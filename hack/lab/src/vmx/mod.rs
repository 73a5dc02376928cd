//! The simulated hypervisor.
//!
//! ```text
//!  guest program --SIGSEGV on IN/INS/OUTS, CPUID--> tracer --Registers--> host (a Device) --messages--> scenario
//! ```

pub mod cli;
pub mod device;
