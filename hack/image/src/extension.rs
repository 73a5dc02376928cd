//! The tree of the extension image: which file stands where.
//!
//! ```text
//! manifest.yaml
//! rootfs/usr/local/etc/containers/talos-vmtoolsd.yaml          service specification
//! rootfs/usr/local/lib/containers/talos-vmtoolsd/talos-vmtoolsd  the static binary
//! rootfs/usr/local/share/spdx/talos-vmtoolsd.spdx.json         what it is made of
//! ```

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use thiserror::Error;

use crate::{NAME, layer::Tree};

/// The manifest's place, in the image and in the source tree.
pub const MANIFEST: &str = "manifest.yaml";

/// The service specification's place in the source tree.
const SERVICE_SOURCE: &str = "extension/talos-vmtoolsd.yaml";

/// Where machined looks for service specifications.
pub const SERVICES: &str = "rootfs/usr/local/etc/containers";

/// Where the roots of the services' containers are.
pub const CONTAINERS: &str = "rootfs/usr/local/lib/containers";

/// Where Talos 1.11 and later look for bills of materials.
pub const BILLS: &str = "rootfs/usr/local/share/spdx";

/// A source file that cannot be read.
#[derive(Debug, Error)]
#[error("{path}: {error}")]
pub struct SourceError {
    path: PathBuf,
    error: io::Error,
}

/// Lays out the image from the source tree, the binary, and the bill of materials.
///
/// # Errors
///
/// When the manifest or the service specification cannot be read.
pub fn tree(workspace: &Path, binary: Vec<u8>, bill: String) -> Result<Tree, SourceError> {
    let source = |name: &str| {
        let path = workspace.join(name);
        fs::read(&path).map_err(|error| SourceError { path, error })
    };
    let mut tree = Tree::default();
    tree.file(MANIFEST, 0o644, source(MANIFEST)?);
    tree.file(format!("{SERVICES}/{NAME}.yaml"), 0o644, source(SERVICE_SOURCE)?);
    tree.file(format!("{CONTAINERS}/{NAME}/{NAME}"), 0o755, binary);
    tree.file(format!("{BILLS}/{NAME}.spdx.json"), 0o644, bill);
    Ok(tree)
}
