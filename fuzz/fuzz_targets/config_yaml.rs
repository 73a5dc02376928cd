//! The settings file, any bytes: a file with a mistake gives settings all the same, and each mistake names its place.

#![no_main]

use std::{
    fs::File,
    io::{Seek, Write},
    os::fd::AsRawFd,
    sync::LazyLock,
};

use libfuzzer_sys::fuzz_target;
use nix::sys::memfd::{MFdFlags, memfd_create};
use talos_vmtoolsd::config;

/// A file in memory, used again and again.
static FILE: LazyLock<File> =
    LazyLock::new(|| File::from(memfd_create("config.yaml", MFdFlags::empty()).expect("a file in memory")));

fuzz_target!(|text: &[u8]| {
    let mut file = &*FILE;
    file.set_len(0).expect("to empty it");
    file.rewind().expect("to rewind it");
    file.write_all(text).expect("to write it");
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let (settings, mistakes) = config::load_from([("VMTOOLSD_CONFIG".into(), path.into())]);
    assert!((10..=1000).contains(&settings.poll_max.as_millis()));
    assert!(
        mistakes
            .iter()
            .all(|mistake| !mistake.place.is_empty() && !mistake.problem.is_empty())
    );
});
