//! Servers of the Talos machine API, generated from `proto/` (see `proto/README.md`).
#![allow(missing_docs, clippy::all, reason = "generated")]

pub mod machine {
    include!("machine.rs");
}
pub mod cosi {
    pub mod resource {
        include!("cosi.resource.rs");
    }
}
