//! The one layer of the image: a tar archive that every Talos release unpacks to the same tree.
//!
//! Up to Talos 1.13 a parent directory must stand before its children, and later releases make missing ones with mode
//! 0700, which then is the mode of `/usr` on the node. So every directory is listed, entries are sorted, and there are
//! only directories and regular files. Source: `pkg/archiver/untar.go` of siderolabs/talos.

use std::{
    collections::{BTreeMap, BTreeSet},
    io::{self, Read, Write},
};

use flate2::{Compression, GzBuilder};
use tar::{Archive, Builder, EntryType, Header};
use thiserror::Error;

/// Mode of every directory.
pub const DIRECTORY_MODE: u32 = 0o755;

/// What is read of a layer at most, in bytes: several times what one holds.
pub const LIMIT: u64 = 32 << 20;

/// The files of an image by their path, without a leading slash. Directories follow from them.
#[derive(Debug, Default)]
pub struct Tree(BTreeMap<String, (u32, Vec<u8>)>);

impl Tree {
    /// Adds a file with its mode; a file of the same path is replaced.
    pub fn file(&mut self, path: impl Into<String>, mode: u32, content: impl Into<Vec<u8>>) {
        self.0.insert(path.into(), (mode, content.into()));
    }

    /// The archive. All times are `time`, in seconds since 1970.
    ///
    /// # Errors
    ///
    /// When a path is longer than the format has room for.
    pub fn archive(&self, time: u64) -> io::Result<Vec<u8>> {
        let mut directories = BTreeSet::new();
        for path in self.0.keys() {
            directories.extend(path.match_indices('/').map(|(end, _)| path.split_at(end).0));
        }
        let mut builder = Builder::new(Vec::new());
        let mut paths: BTreeMap<&str, Option<&(u32, Vec<u8>)>> = directories
            .into_iter()
            .map(|directory| (directory, None))
            .collect();
        paths.extend(self.0.iter().map(|(path, file)| (path.as_str(), Some(file))));
        for (path, file) in paths {
            let (kind, mode, content) = match file {
                None => (EntryType::Directory, DIRECTORY_MODE, [].as_slice()),
                Some((mode, content)) => (EntryType::Regular, *mode, content.as_slice()),
            };
            let mut header = Header::new_ustar();
            header.set_path(path)?;
            header.set_entry_type(kind);
            header.set_mode(mode);
            header.set_uid(0);
            header.set_gid(0);
            header.set_mtime(time);
            header.set_size(content.len() as u64);
            header.set_cksum();
            builder.append(&header, content)?;
        }
        builder.into_inner()
    }
}

/// Compresses a layer. gzip is the one form that everything that handles images reads; its header holds no time and no
/// name.
///
/// # Errors
///
/// None in practice: it writes to memory.
pub fn compress(archive: &[u8]) -> io::Result<Vec<u8>> {
    let mut encoder = GzBuilder::new().mtime(0).write(Vec::new(), Compression::best());
    encoder.write_all(archive)?;
    encoder.finish()
}

/// An entry as it stands in an archive.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// Path as written, without the slash at the end of a directory.
    pub path: String,
    /// Kind of the entry.
    pub kind: EntryType,
    /// All bits of the mode.
    pub mode: u32,
    /// Owner and group.
    pub owner: (u64, u64),
    /// Seconds since 1970.
    pub time: u64,
    /// Content of a file.
    pub content: Vec<u8>,
}

/// An archive that cannot be read.
#[derive(Debug, Error)]
pub enum LayerError {
    /// It is compressed; Talos reads plain archives only.
    #[error("it is compressed, not a plain tar archive")]
    Compressed,
    /// It is larger than [`LIMIT`].
    #[error("its entries hold more than {LIMIT} bytes")]
    TooLarge,
    /// It is no archive.
    #[error("it is no tar archive: {0}")]
    Malformed(#[from] io::Error),
}

/// Reads an archive entry by entry, in its order, without interpretation.
///
/// # Errors
///
/// When it is compressed, too large, or no archive.
pub fn entries(archive: &[u8]) -> Result<Vec<Entry>, LayerError> {
    const GZIP: [u8; 2] = [0x1f, 0x8b];
    const ZSTD: [u8; 4] = [0x28, 0xb5, 0x2f, 0xfd];
    if archive.starts_with(&GZIP) || archive.starts_with(&ZSTD) {
        return Err(LayerError::Compressed);
    }
    let mut left = LIMIT;
    let mut entries = Vec::new();
    for entry in Archive::new(archive).entries()?.raw(true) {
        let mut entry = entry?;
        let header = entry.header().clone();
        left = left.checked_sub(header.size()?).ok_or(LayerError::TooLarge)?;
        let mut content = Vec::new();
        entry.read_to_end(&mut content)?;
        let path = String::from_utf8_lossy(&entry.path_bytes()).into_owned();
        entries.push(Entry {
            path: path.strip_suffix('/').unwrap_or(&path).to_owned(),
            kind: header.entry_type(),
            mode: header.mode()?,
            owner: (header.uid()?, header.gid()?),
            time: header.mtime()?,
            content,
        });
    }
    Ok(entries)
}

/// Uncompresses a gzip layer.
///
/// # Errors
///
/// When it is no gzip stream, or larger than [`LIMIT`].
pub fn uncompress(layer: &[u8]) -> Result<Vec<u8>, LayerError> {
    let mut archive = Vec::new();
    flate2::read::GzDecoder::new(layer)
        .take(LIMIT + 1)
        .read_to_end(&mut archive)?;
    if archive.len() as u64 > LIMIT {
        return Err(LayerError::TooLarge);
    }
    Ok(archive)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_sorted_and_complete() {
        let mut tree = Tree::default();
        tree.file("rootfs/usr/local/b", 0o644, "b");
        tree.file("manifest.yaml", 0o644, "m");
        tree.file("rootfs/usr/local/a/x", 0o755, "x");
        let archive = tree.archive(7).unwrap();
        let entries = entries(&archive).unwrap();
        let paths: Vec<_> = entries.iter().map(|entry| entry.path.as_str()).collect();
        assert_eq!(
            paths,
            [
                "manifest.yaml",
                "rootfs",
                "rootfs/usr",
                "rootfs/usr/local",
                "rootfs/usr/local/a",
                "rootfs/usr/local/a/x",
                "rootfs/usr/local/b"
            ]
        );
        assert!(
            entries
                .iter()
                .all(|entry| entry.time == 7 && entry.owner == (0, 0))
        );
        let layer = compress(&archive).unwrap();
        assert_eq!(uncompress(&layer).unwrap(), archive);
        assert!(matches!(super::entries(&layer), Err(LayerError::Compressed)));
    }

    #[test]
    fn noise_is_an_error() {
        assert!(entries(&[7; 2000]).is_err());
        assert!(uncompress(b"noise").is_err());
    }
}
