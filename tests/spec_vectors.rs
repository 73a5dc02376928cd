//! Specs that Talos's own encoder wrote read as Talos's own decoder reads them.
//!
//! `hack/conformance/run` writes the vectors, one file per release, and names it in `TALOS_SPEC_VECTORS`;
//! `hack/conformance/README.md` has the format. Without the variable there is nothing to read, which counts as ignored.

use std::{collections::BTreeMap, env, ffi::OsStr, fs, process::ExitCode};

use libtest_mimic::{Arguments, Trial};
use serde::Serialize;
use serde_json::Value;
use talos_vmtoolsd::talos::{
    ResourceType,
    decode::{self, DecodeError},
};

type Outcome<T> = Result<T, Box<dyn std::error::Error>>;

/// Names the file.
const VARIABLE: &str = "TALOS_SPEC_VECTORS";

/// The format that is understood.
const FORMAT: u64 = 1;

/// Types whose readings are not compared yet.
const NOT_COMPARED: [&str; 14] = [
    "AddressSpecs.net.talos.dev",
    "BootIDs.runtime.talos.dev",
    "Disks.block.talos.dev",
    "ExtensionStatuses.runtime.talos.dev",
    "ImageFactorySchematics.runtime.talos.dev",
    "MachineTypes.config.talos.dev",
    "MountStatuses.block.talos.dev",
    "MountStatuses.runtime.talos.dev",
    "NodeStatuses.kubernetes.talos.dev",
    "Nodenames.kubernetes.talos.dev",
    "PlatformMetadatas.talos.dev",
    "SystemDisks.block.talos.dev",
    "Versions.runtime.talos.dev",
    "VolumeStatuses.block.talos.dev",
];

/// What the decoder of this type reads, or nothing where there is no decoder.
fn decoded(resource_type: &str, spec: &[u8]) -> Option<Outcome<Value>> {
    let resource_type = ResourceType::ALL
        .into_iter()
        .find(|known| known.type_name() == resource_type)?;
    Some(match resource_type {
        ResourceType::Link => json(decode::link(spec)),
        ResourceType::Address => json(decode::address(spec)),
        ResourceType::Route => json(decode::route(spec)),
        ResourceType::NodeAddress => json(decode::node_address(spec)),
        ResourceType::Hostname => json(decode::hostname(spec)),
        ResourceType::Resolver => json(decode::resolver(spec)),
        ResourceType::Machine => json(decode::machine(spec)),
        ResourceType::Security => json(decode::security(spec)),
        // Listed in NOT_COMPARED: the vectors hold no reading of these in the decoder's form.
        _ => return None,
    })
}

fn json<T: Serialize>(value: Result<T, DecodeError>) -> Outcome<Value> {
    Ok(serde_json::to_value(value?)?)
}

/// The decoder may leave members out, and must be right about every member that it has.
fn agrees(decoded: &Value, reading: &Value) -> bool {
    match (decoded, reading) {
        (Value::Object(decoded), Value::Object(reading)) => {
            !decoded.is_empty()
                && decoded
                    .iter()
                    .all(|(name, value)| reading.get(name).is_some_and(|told| agrees(value, told)))
        }
        _ => decoded == reading,
    }
}

/// A length of four bytes and as many bytes, or nothing at the end.
fn field<'a>(rest: &mut &'a [u8]) -> Outcome<Option<&'a [u8]>> {
    if rest.is_empty() {
        return Ok(None);
    }
    let (length, after) = rest.split_first_chunk().ok_or("the file ends within a length")?;
    let length = usize::try_from(u32::from_be_bytes(*length))?;
    let (content, after) = after
        .split_at_checked(length)
        .ok_or("the file ends within a field")?;
    *rest = after;
    Ok(Some(content))
}

/// Compares every vector of a file and gives how many each type had.
fn compare(file: &[u8]) -> Outcome<BTreeMap<String, usize>> {
    let rest = &mut &*file;
    let header: Value = serde_json::from_slice(field(rest)?.ok_or("the file is empty")?)?;
    if header.get("format") != Some(&FORMAT.into()) {
        return Err(format!("the file has another format: {header}").into());
    }
    let mut counts = BTreeMap::new();
    while let Some(resource_type) = field(rest)? {
        let resource_type = std::str::from_utf8(resource_type)?;
        let spec = field(rest)?.ok_or("a vector without spec")?;
        let reading = serde_json::from_slice(field(rest)?.ok_or("a vector without reading")?)?;
        let Some(decoded) = decoded(resource_type, spec) else {
            if NOT_COMPARED.contains(&resource_type) {
                continue;
            }
            return Err(format!("{resource_type} has neither a decoder nor an excuse").into());
        };
        let agreed = match &decoded {
            Ok(value) => agrees(value, &reading),
            Err(_) => reading.is_null(),
        };
        if !agreed {
            return Err(
                format!("{resource_type} {spec:02x?}: decoded {decoded:?}, Talos reads {reading}").into(),
            );
        }
        *counts.entry(resource_type.to_owned()).or_default() += 1;
    }
    Ok(counts)
}

fn main() -> ExitCode {
    let path = env::var_os(VARIABLE);
    let name = "every_vector_is_read_as_talos_reads_it";
    let vectors = match path {
        Some(path) => Trial::test(name, move || Ok(every_vector_is_read_as_talos_reads_it(&path)?)),
        None => Trial::test(
            format!("{name} (skipped: {VARIABLE} names no file, hack/conformance/run makes one)"),
            || Err(format!("{VARIABLE} names no file").into()),
        )
        .with_ignored_flag(true),
    };
    let trials = vec![
        vectors,
        Trial::test("a_right_reading_is_counted", || Ok(a_right_reading_is_counted()?)),
        Trial::test("a_wrong_reading_is_found", || {
            a_wrong_reading_is_found();
            Ok(())
        }),
        Trial::test("a_file_that_is_none_is_refused", || {
            a_file_that_is_none_is_refused();
            Ok(())
        }),
    ];
    libtest_mimic::run(&Arguments::from_args(), trials).exit_code()
}

fn every_vector_is_read_as_talos_reads_it(path: &OsStr) -> Outcome<()> {
    let counts = compare(&fs::read(path)?)?;
    for resource_type in ResourceType::ALL {
        let count = counts.get(resource_type.type_name()).copied().unwrap_or_default();
        println!("{count:6} vectors of {resource_type}");
        let compared = decoded(resource_type.type_name(), &[]).is_some();
        assert!(
            count > 0 || !compared,
            "{} has no vector",
            resource_type.type_name()
        );
    }
    Ok(())
}

/// A file with the vectors given.
fn file(vectors: &[(&str, &[u8], &str)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut put = |content: &[u8]| {
        file.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        file.extend_from_slice(content);
    };
    put(br#"{"format":1,"release":"v1.14.1","seed":1}"#);
    for (resource_type, spec, reading) in vectors {
        put(resource_type.as_bytes());
        put(spec);
        put(reading.as_bytes());
    }
    file
}

const HOSTNAME: &str = "HostnameStatuses.net.talos.dev";
/// The name `a` without a domain.
const NAMED: &[u8] = b"\x0a\x01a";

fn a_right_reading_is_counted() -> Outcome<()> {
    let vectors: [(&str, &[u8], &str); 3] = [
        (
            HOSTNAME,
            NAMED,
            r#"{"hostname":"a","domainname":"","something":"more"}"#,
        ),
        (HOSTNAME, b"", "null"),
        ("Disks.block.talos.dev", b"", "{}"),
    ];
    assert_eq!(
        compare(&file(&vectors))?,
        BTreeMap::from([(HOSTNAME.to_owned(), 2)])
    );
    Ok(())
}

fn a_wrong_reading_is_found() {
    for (spec, reading) in [
        (NAMED, r#"{"hostname":"b","domainname":""}"#),
        (NAMED, r#"{"hostname":"a"}"#),
        (NAMED, "null"),
        (b"", r#"{"hostname":"","domainname":""}"#),
    ] {
        assert!(
            compare(&file(&[(HOSTNAME, spec, reading)])).is_err(),
            "{spec:?} {reading}"
        );
    }
}

fn a_file_that_is_none_is_refused() {
    let whole = file(&[(HOSTNAME, NAMED, r#"{"hostname":"a","domainname":""}"#)]);
    assert!(compare(&whole).is_ok());
    let other_format = String::from_utf8_lossy(&whole).replace(r#""format":1"#, r#""format":2"#);
    assert!(compare(other_format.as_bytes()).is_err());
    assert!(compare(&file(&[("Unicorns.net.talos.dev", b"", "null")])).is_err());
    for cut in [0, 3, 20, whole.len() - 1] {
        assert!(
            compare(whole.get(..cut).unwrap_or_default()).is_err(),
            "cut at {cut}"
        );
    }
}
