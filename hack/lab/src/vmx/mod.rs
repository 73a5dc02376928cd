//! The simulated hypervisor.
//!
//! ```text
//!  guest program --SIGSEGV on IN/INS/OUTS, CPUID--> tracer --Registers--> host (a Device) --messages--> scenario
//! ```

pub mod backdoor;
pub mod channels;
pub mod cli;
pub mod clock;
pub mod control;
pub mod counters;
pub mod cpuid;
pub mod device;
pub mod fault;
pub mod guard;
pub mod guestinfo;
pub mod host;
pub mod isolation;
pub mod machine;
pub mod measure;
pub mod measurement;
pub mod memory;
pub mod message;
pub mod reports;
pub mod rpci;
pub mod scenario;
pub mod summary;
pub mod tclo;
pub mod tracer;
pub mod transcript;
pub mod variables;
pub mod view;
pub mod violation;
