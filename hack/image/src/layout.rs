//! OCI image layouts: folders of blobs under their SHA-256, with an `index.json`.
//!
//! ```text
//! index.json ─┬─ image index, named by its tag ──┬── manifest amd64 ── config, layer
//!             │  (what `skopeo copy` takes)      └── manifest arm64 ── config, layer
//!             ├─ manifest amd64, with platform   (what the imager's `ociPath` takes: it looks at
//!             └─ manifest arm64, with platform    platforms in `index.json` only)
//! ```
//!
//! Sources: the OCI image specification 1.1, and `pullFromOCI` in `pkg/imager/profile/input.go` of siderolabs/talos.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Read},
    path::{Path, PathBuf},
    time::{Duration, UNIX_EPOCH},
};

use serde::{Deserialize, Serialize, de::DeserializeOwned};
use sha2::{Digest as _, Sha256};
use thiserror::Error;

use crate::{architecture::Architecture, layer};

/// Media type of an index.
pub const INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// Media type of a manifest.
pub const MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// Media type of a configuration.
pub const CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// Media type of a layer.
pub const LAYER: &str = "application/vnd.oci.image.layer.v1.tar+gzip";
/// The annotation that gives an entry of `index.json` its tag.
pub const TAG: &str = "org.opencontainers.image.ref.name";

/// A reference to a blob.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the blob is.
    pub media_type: String,
    /// `sha256:` and 64 hexadecimal digits.
    pub digest: String,
    /// Bytes.
    pub size: u64,
    /// Free keys and values.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
    /// For which machine it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
}

/// For which machine an image is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Platform {
    /// Go's name of the processor.
    pub architecture: String,
    /// `linux`.
    pub os: String,
}

/// An index: of a layout, or of the images of one tag.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// 2.
    pub schema_version: u32,
    /// [`INDEX`].
    #[serde(default)]
    pub media_type: String,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// The manifest of an image.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// 2.
    pub schema_version: u32,
    /// [`MANIFEST`].
    #[serde(default)]
    pub media_type: String,
    /// Its configuration.
    pub config: Descriptor,
    /// Its layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// The configuration of an image that is never run.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Config {
    /// RFC 3339.
    pub created: String,
    /// Go's name of the processor.
    pub architecture: String,
    /// `linux`.
    pub os: String,
    /// Labels.
    #[serde(default)]
    pub config: Labels,
    /// Digests of the layers.
    pub rootfs: Rootfs,
}

/// Labels of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct Labels {
    /// Free keys and values.
    #[serde(rename = "Labels", default)]
    pub labels: BTreeMap<String, String>,
}

/// Digests of the uncompressed layers.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Rootfs {
    /// `layers`.
    pub r#type: String,
    /// One per layer.
    pub diff_ids: Vec<String>,
}

/// What went wrong with a layout.
#[derive(Debug, Error)]
pub enum LayoutError {
    /// A file cannot be read or written.
    #[error("{path}: {error}")]
    File {
        /// Which file.
        path: PathBuf,
        /// Why.
        error: io::Error,
    },
    /// A file is not the JSON that it should be.
    #[error("{what}: {error}")]
    Json {
        /// Which.
        what: String,
        /// Why.
        error: serde_json::Error,
    },
    /// A blob is not what its descriptor says.
    #[error("{digest} is no blob of {size} bytes with this digest")]
    Blob {
        /// The digest in the descriptor.
        digest: String,
        /// The size in the descriptor.
        size: u64,
    },
}

/// A layout that is being written, or was opened.
#[derive(Debug)]
pub struct Layout {
    directory: PathBuf,
    /// `index.json`.
    pub index: Index,
}

impl Layout {
    /// Makes an empty layout; whatever the directory held is removed.
    ///
    /// # Errors
    ///
    /// When the directory cannot be made.
    pub fn create(directory: &Path) -> Result<Self, LayoutError> {
        let failed = |error| LayoutError::File {
            path: directory.to_path_buf(),
            error,
        };
        match fs::remove_dir_all(directory) {
            Err(err) if err.kind() != io::ErrorKind::NotFound => return Err(failed(err)),
            _ => {}
        }
        fs::create_dir_all(directory.join("blobs/sha256")).map_err(failed)?;
        let layout = Self {
            directory: directory.to_path_buf(),
            index: index(Vec::new()),
        };
        layout.put("oci-layout", br#"{"imageLayoutVersion":"1.0.0"}"#)?;
        Ok(layout)
    }

    /// Opens a layout.
    ///
    /// # Errors
    ///
    /// When there is none, or its index cannot be understood.
    pub fn open(directory: &Path) -> Result<Self, LayoutError> {
        let path = directory.join("index.json");
        let text = read(&path)?;
        Ok(Self {
            directory: directory.to_path_buf(),
            index: parse(&text, "index.json")?,
        })
    }

    /// Writes `index.json`, the last step.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn finish(&self) -> Result<(), LayoutError> {
        self.put("index.json", &encode(&self.index)?)
    }

    /// Stores a blob.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store(&self, media_type: &str, content: &[u8]) -> Result<Descriptor, LayoutError> {
        let digest = digest(content);
        self.put(&place(&digest), content)?;
        Ok(Descriptor {
            media_type: media_type.to_owned(),
            digest,
            size: content.len() as u64,
            annotations: BTreeMap::new(),
            platform: None,
        })
    }

    /// Stores something as JSON, without a space or a line end.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store_json(&self, media_type: &str, value: &impl Serialize) -> Result<Descriptor, LayoutError> {
        self.store(media_type, &encode(value)?)
    }

    /// Stores an image of one layer, given uncompressed. `time` is in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store_image(
        &self,
        archive: &[u8],
        architecture: Architecture,
        labels: &BTreeMap<String, String>,
        time: u64,
    ) -> Result<Descriptor, LayoutError> {
        let compressed = layer::compress(archive).map_err(|error| LayoutError::File {
            path: self.directory.clone(),
            error,
        })?;
        let layer = self.store(LAYER, &compressed)?;
        let config = Config {
            created: humantime::format_rfc3339_seconds(UNIX_EPOCH + Duration::from_secs(time)).to_string(),
            architecture: architecture.to_string(),
            os: "linux".to_owned(),
            config: Labels {
                labels: labels.clone(),
            },
            rootfs: Rootfs {
                r#type: "layers".to_owned(),
                diff_ids: vec![digest(archive)],
            },
        };
        let mut manifest = self.store_manifest(self.store_json(CONFIG, &config)?, vec![layer])?;
        manifest.platform = Some(Platform {
            architecture: architecture.to_string(),
            os: "linux".to_owned(),
        });
        Ok(manifest)
    }

    /// Stores a manifest of its parts.
    ///
    /// # Errors
    ///
    /// When it cannot be written.
    pub fn store_manifest(
        &self,
        config: Descriptor,
        layers: Vec<Descriptor>,
    ) -> Result<Descriptor, LayoutError> {
        let manifest = Manifest {
            schema_version: 2,
            media_type: MANIFEST.to_owned(),
            config,
            layers,
        };
        self.store_json(MANIFEST, &manifest)
    }

    /// Lists images under a tag: as an index for registries, and one by one for the imager.
    ///
    /// # Errors
    ///
    /// When the index cannot be written.
    pub fn tag(&mut self, images: Vec<Descriptor>, tag: &str) -> Result<Descriptor, LayoutError> {
        let mut named = self.store_json(INDEX, &index(images.clone()))?;
        named.annotations.insert(TAG.to_owned(), tag.to_owned());
        self.index.manifests.push(named.clone());
        self.index.manifests.extend(images);
        Ok(named)
    }

    /// Reads a blob, of [`layer::LIMIT`] bytes at most.
    ///
    /// # Errors
    ///
    /// When it is not there, or not what the descriptor says.
    pub fn blob(&self, descriptor: &Descriptor) -> Result<Vec<u8>, LayoutError> {
        let wrong = || LayoutError::Blob {
            digest: descriptor.digest.clone(),
            size: descriptor.size,
        };
        let digits = descriptor.digest.strip_prefix("sha256:").ok_or_else(wrong)?;
        if digits.len() != 64 || !digits.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err(wrong());
        }
        let content = read(&self.directory.join(place(&descriptor.digest)))?;
        if content.len() as u64 != descriptor.size || digest(&content) != descriptor.digest {
            return Err(wrong());
        }
        Ok(content)
    }

    /// Reads a blob that is JSON.
    ///
    /// # Errors
    ///
    /// As [`Self::blob`], and when it is something else.
    pub fn json<T: DeserializeOwned>(&self, descriptor: &Descriptor) -> Result<T, LayoutError> {
        parse(&self.blob(descriptor)?, &descriptor.digest)
    }

    /// The entries of `index.json` that have a tag, with the tag.
    pub fn tags(&self) -> impl Iterator<Item = (&str, &Descriptor)> {
        self.index
            .manifests
            .iter()
            .filter_map(|descriptor| Some((descriptor.annotations.get(TAG)?.as_str(), descriptor)))
    }

    fn put(&self, name: &str, content: &[u8]) -> Result<(), LayoutError> {
        let path = self.directory.join(name);
        fs::write(&path, content).map_err(|error| LayoutError::File { path, error })
    }
}

/// The digest of a content.
#[must_use]
pub fn digest(content: &[u8]) -> String {
    use std::fmt::Write as _;
    let mut text = "sha256:".to_owned();
    for byte in Sha256::digest(content) {
        // Writing to a string cannot fail.
        let _ = write!(text, "{byte:02x}");
    }
    text
}

/// The name of a blob's file.
fn place(digest: &str) -> String {
    format!("blobs/{}", digest.replace(':', "/"))
}

fn index(manifests: Vec<Descriptor>) -> Index {
    Index {
        schema_version: 2,
        media_type: INDEX.to_owned(),
        manifests,
    }
}

fn encode(value: &impl Serialize) -> Result<Vec<u8>, LayoutError> {
    serde_json::to_vec(value).map_err(|error| LayoutError::Json {
        what: "what is to be written".to_owned(),
        error,
    })
}

fn parse<T: DeserializeOwned>(text: &[u8], what: &str) -> Result<T, LayoutError> {
    serde_json::from_slice(text).map_err(|error| LayoutError::Json {
        what: what.to_owned(),
        error,
    })
}

fn read(path: &Path) -> Result<Vec<u8>, LayoutError> {
    let mut content = Vec::new();
    fs::File::open(path)
        .and_then(|file| file.take(layer::LIMIT).read_to_end(&mut content))
        .map_err(|error| LayoutError::File {
            path: path.to_path_buf(),
            error,
        })?;
    Ok(content)
}
