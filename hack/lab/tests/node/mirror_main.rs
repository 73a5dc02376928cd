//! The mirror of this machine, which takes network namespaces and hence root.
#![allow(
    dead_code,
    unused_imports,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a failed step of a test is a failed test; the client is shared with the other tests of the node"
)]

mod client;
mod mirror;
#[path = "../needs/mod.rs"]
mod needs;

fn main() -> std::process::ExitCode {
    needs::conclude(&libtest_mimic::Arguments::from_args(), mirror::trials())
}
