//! The extension image: from the source tree to what Talos's imager and Image Factory take.
//!
//! ```text
//! Cargo.toml ──daemon──> static binary ─┐
//! Cargo.lock ──sbom────> SPDX document ─┼─extension──> Tree ──layer──> tar ──rules──> layout ──> folder
//! manifest.yaml, extension/*.yaml ──────┘                              │                 │
//!                                                                      └─> tarball       └─> catalog, signature
//! ```
//!
//! No container engine takes part. Equal input gives equal bytes: entries are sorted, owners are 0, the one time in all
//! headers is that of the commit, and paths of the build machine are mapped away.
//!
//! What Talos accepts silently and then fails on is refused here, by name: see [`rules`].

pub mod architecture;
pub mod catalog;
pub mod contribution;
pub mod daemon;
pub mod extension;
pub mod layer;
pub mod layout;
pub mod manifest;
pub mod rules;
pub mod sbom;
pub mod service;
pub mod signature;

/// The name of the package, the extension, its service, its directory and its binary: Talos wants them equal.
pub const NAME: &str = "talos-vmtoolsd";

/// The version of this workspace, of the binary and of the image.
pub const VERSION: &str = env!("CARGO_PKG_VERSION");
