//! Signatures as cosign writes them with a key: an image beside the signed one, tagged `sha256-<digest>.sig`.
//!
//! Its only layer is a small document that names repository and digest; the annotation of that layer is the ECDSA
//! signature of the document. Image Factory demands one on every extension and on the catalog, and mirrors copy them by
//! their tags. Source: `specs/SIGNATURE_SPEC.md` of sigstore/cosign. The nonce is derived from key and document (RFC
//! 6979), so equal input gives equal bytes.

use std::collections::BTreeMap;

use base64::{Engine as _, engine::general_purpose::STANDARD};
use p256::{
    SecretKey,
    ecdsa::{DerSignature, SigningKey, signature::Signer},
    pkcs8::{DecodePrivateKey, EncodePublicKey, LineEnding},
};
use serde::{Deserialize, Serialize};
use thiserror::Error;

use crate::layout::{self, Config, Descriptor, Labels, Layout, LayoutError, Rootfs, TAG};

/// Media type of the signed document.
pub const DOCUMENT: &str = "application/vnd.dev.cosign.simplesigning.v1+json";
/// The annotation with the signature, in base64.
pub const ANNOTATION: &str = "dev.cosignproject.cosign/signature";

/// A private key on the curve P-256.
pub struct Key(SigningKey);

/// Why there is no signature.
#[derive(Debug, Error)]
pub enum SignatureError {
    /// The key cannot be read.
    #[error(
        "the key is no unencrypted P-256 key in PEM (openssl genpkey -algorithm EC -pkeyopt ec_paramgen_curve:P-256)"
    )]
    Key,
    /// The digest has another form.
    #[error("{0:?} is no digest")]
    Digest(String),
    /// The layout cannot be read or written.
    #[error(transparent)]
    Layout(#[from] LayoutError),
    /// The document cannot be written.
    #[error(transparent)]
    Json(#[from] serde_json::Error),
}

/// What is signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Document {
    /// What a verifier must understand.
    pub critical: Critical,
    /// Nothing of ours.
    pub optional: Option<BTreeMap<String, String>>,
}

/// What a verifier must understand.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Critical {
    /// Under which name.
    pub identity: Identity,
    /// Which image.
    pub image: Image,
    /// `cosign container image signature`.
    pub r#type: String,
}

/// Under which name an image was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Identity {
    /// The repository, without a tag.
    #[serde(rename = "docker-reference")]
    pub reference: String,
}

/// Which image was signed.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize, Serialize)]
pub struct Image {
    /// Digest of its index or manifest.
    #[serde(rename = "docker-manifest-digest")]
    pub digest: String,
}

impl Key {
    /// Reads a key as openssl writes it: PKCS #8 or SEC 1, in PEM, not encrypted.
    ///
    /// # Errors
    ///
    /// When it is something else.
    pub fn read(pem: &str) -> Result<Self, SignatureError> {
        let secret = SecretKey::from_pkcs8_pem(pem)
            // openssl ecparam writes the curve in a block of its own in front.
            .or_else(|_| {
                let begin = pem.find("-----BEGIN EC PRIVATE KEY-----").unwrap_or_default();
                SecretKey::from_sec1_pem(pem.get(begin..).unwrap_or_default())
            })
            .map_err(|_| SignatureError::Key)?;
        Ok(Self(SigningKey::from(secret)))
    }

    /// The public key in PEM, as verifiers take it.
    ///
    /// # Errors
    ///
    /// None in practice.
    pub fn public(&self) -> Result<String, SignatureError> {
        self.0
            .verifying_key()
            .to_public_key_pem(LineEnding::LF)
            .map_err(|_| SignatureError::Key)
    }

    /// Signs what a layout holds under a tag, and stores the signature in the same layout.
    ///
    /// # Errors
    ///
    /// When the layout cannot be written.
    pub fn sign(
        &self,
        layout: &mut Layout,
        signed: &Descriptor,
        repository: &str,
    ) -> Result<Descriptor, SignatureError> {
        let tag = tag(&signed.digest)?;
        let document = Document {
            critical: Critical {
                identity: Identity {
                    reference: repository.to_owned(),
                },
                image: Image {
                    digest: signed.digest.clone(),
                },
                r#type: "cosign container image signature".to_owned(),
            },
            optional: None,
        };
        let text = serde_json::to_vec(&document)?;
        let signature: DerSignature = self.0.sign(&text);
        let mut layer = layout.store(DOCUMENT, &text)?;
        layer
            .annotations
            .insert(ANNOTATION.to_owned(), STANDARD.encode(signature.as_bytes()));
        let config = Config {
            created: "0001-01-01T00:00:00Z".to_owned(),
            architecture: String::new(),
            os: String::new(),
            config: Labels::default(),
            rootfs: Rootfs {
                r#type: "layers".to_owned(),
                diff_ids: vec![layer.digest.clone()],
            },
        };
        let config = layout.store_json(layout::CONFIG, &config)?;
        let mut manifest = layout.store_manifest(config, vec![layer])?;
        manifest.annotations.insert(TAG.to_owned(), tag.clone());
        layout
            .index
            .manifests
            .retain(|entry| entry.annotations.get(TAG) != Some(&tag));
        layout.index.manifests.push(manifest.clone());
        Ok(manifest)
    }
}

/// The tag of the signatures of a digest.
///
/// # Errors
///
/// When it is no digest.
pub fn tag(digest: &str) -> Result<String, SignatureError> {
    match digest.split_once(':') {
        Some(("sha256", digits)) => Ok(format!("sha256-{digits}.sig")),
        _ => Err(SignatureError::Digest(digest.to_owned())),
    }
}
