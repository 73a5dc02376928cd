//! Byte dialogues: the message layer, RPCI and TCLO against scripted hosts.
//!
//! `script` is a table of exact register exchanges; `host` is a small host that keeps channels and misbehaves on demand.
//! Tests named `row_NN_…` are the rows of the table of malformed and hostile input in `docs/protocol.md`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "tests fail by panicking"
)]

mod dialogue {
    mod channel;
    mod commands;
    mod examples;
    mod host;
    mod hostile;
    mod pump;
    mod rpci;
    mod script;
    mod thread;
}
