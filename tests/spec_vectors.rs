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
const FORMAT: u64 = 2;

/// What the decoder of this type reads, or nothing where there is no such type.
fn decoded(resource_type: &str, id: &str, spec: &[u8]) -> Option<Outcome<Value>> {
    let resource_type = ResourceType::ALL
        .into_iter()
        .find(|known| known.type_name() == resource_type)?;
    Some(match resource_type {
        ResourceType::Link => json(decode::link(spec)),
        ResourceType::Address => json(decode::address(spec)),
        ResourceType::Route => json(decode::route(spec)),
        ResourceType::NodeAddress => json(decode::node_address(spec)),
        ResourceType::NodeIp => json(decode::node_ip(spec)),
        ResourceType::Hostname => json(decode::hostname(spec)),
        ResourceType::Resolver => json(decode::resolver(spec)),
        ResourceType::Machine => json(decode::machine(spec)),
        ResourceType::Security => json(decode::security(spec)),
        ResourceType::AddressSpec => json(decode::address_spec(id, spec)),
        ResourceType::MachineType => json(decode::machine_type(spec)),
        ResourceType::Nodename => json(decode::nodename(spec)),
        ResourceType::Node => json(decode::node_status(spec)),
        ResourceType::Cluster => json(decode::cluster_name(spec)),
        ResourceType::Schematic => json(decode::schematic(spec)),
        ResourceType::Extension => json(decode::extension(spec)),
        ResourceType::BootId => json(decode::boot_id(spec)),
        ResourceType::Disk => json(decode::disk(spec)),
        ResourceType::DiscoveredVolume => json(decode::discovered_volume(spec)),
        ResourceType::Volume => json(decode::volume(spec)),
        ResourceType::Mount => json(decode::mount(spec)),
        ResourceType::RuntimeMount => json(decode::runtime_mount(id, spec)),
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

/// Compares every vector of a file and gives the release and how many each type had.
fn compare(file: &[u8]) -> Outcome<(String, BTreeMap<String, usize>)> {
    let rest = &mut &*file;
    let header: Value = serde_json::from_slice(field(rest)?.ok_or("the file is empty")?)?;
    if header.get("format") != Some(&FORMAT.into()) {
        return Err(format!("the file has another format: {header}").into());
    }
    let release = header
        .get("release")
        .and_then(Value::as_str)
        .ok_or("no release")?;
    let mut counts = BTreeMap::new();
    while let Some(resource_type) = field(rest)? {
        let resource_type = std::str::from_utf8(resource_type)?;
        let id = std::str::from_utf8(field(rest)?.ok_or("a vector without id")?)?;
        let spec = field(rest)?.ok_or("a vector without spec")?;
        let reading = serde_json::from_slice(field(rest)?.ok_or("a vector without reading")?)?;
        let Some(decoded) = decoded(resource_type, id, spec) else {
            return Err(format!("{resource_type} has no decoder").into());
        };
        let agreed = match &decoded {
            Ok(value) => agrees(value, &reading),
            Err(_) => reading.is_null(),
        };
        if !agreed {
            return Err(format!(
                "{resource_type} {id} {spec:02x?}: decoded {decoded:?}, Talos reads {reading}"
            )
            .into());
        }
        *counts.entry(resource_type.to_owned()).or_default() += 1;
    }
    Ok((release.to_owned(), counts))
}

/// The types that a release does not have (hack/conformance judges that they are served from then on).
fn is_absent(resource_type: ResourceType, release: &str) -> bool {
    let before_1_14 = ["v1.10.", "v1.11.", "v1.12.", "v1.13."];
    matches!(resource_type, ResourceType::BootId | ResourceType::Schematic)
        && before_1_14.iter().any(|older| release.starts_with(older))
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
    let (release, counts) = compare(&fs::read(path)?)?;
    for resource_type in ResourceType::ALL {
        let count = counts.get(resource_type.type_name()).copied().unwrap_or_default();
        println!("{release}: {count} vectors of {resource_type}");
        assert_eq!(count == 0, is_absent(resource_type, &release), "{resource_type}");
    }
    Ok(())
}

/// A file with the vectors given: type, id, spec and reading.
fn file(vectors: &[(&str, &str, &[u8], &str)]) -> Vec<u8> {
    let mut file = Vec::new();
    let mut put = |content: &[u8]| {
        file.extend_from_slice(&u32::try_from(content.len()).unwrap_or(u32::MAX).to_be_bytes());
        file.extend_from_slice(content);
    };
    put(br#"{"format":2,"release":"v1.14.1","seed":1}"#);
    for (resource_type, id, spec, reading) in vectors {
        put(resource_type.as_bytes());
        put(id.as_bytes());
        put(spec);
        put(reading.as_bytes());
    }
    file
}

const HOSTNAME: &str = "HostnameStatuses.net.talos.dev";
/// The name `a` without a domain.
const NAMED: &[u8] = b"\x0a\x01a";

fn a_right_reading_is_counted() -> Outcome<()> {
    let vectors: [(&str, &str, &[u8], &str); 3] = [
        (
            HOSTNAME,
            "hostname",
            NAMED,
            r#"{"hostname":"a","domainname":"","something":"more"}"#,
        ),
        (HOSTNAME, "hostname", b"", "null"),
        (
            "MountStatuses.runtime.talos.dev",
            "EPHEMERAL",
            b"",
            r#"{"volume_id":"EPHEMERAL","source":"","target":"","filesystem":"","read_only":false,"encrypted":false}"#,
        ),
    ];
    let (release, counts) = compare(&file(&vectors))?;
    assert_eq!(release, "v1.14.1");
    assert_eq!(
        counts,
        BTreeMap::from([
            (HOSTNAME.to_owned(), 2),
            ("MountStatuses.runtime.talos.dev".to_owned(), 1)
        ])
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
            compare(&file(&[(HOSTNAME, "hostname", spec, reading)])).is_err(),
            "{spec:?} {reading}"
        );
    }
}

fn a_file_that_is_none_is_refused() {
    let whole = file(&[(HOSTNAME, "hostname", NAMED, r#"{"hostname":"a","domainname":""}"#)]);
    assert!(compare(&whole).is_ok());
    let other_format = String::from_utf8_lossy(&whole).replace(r#""format":2"#, r#""format":1"#);
    assert!(compare(other_format.as_bytes()).is_err());
    assert!(compare(&file(&[("Unicorns.net.talos.dev", "", b"", "null")])).is_err());
    for cut in [0, 3, 20, whole.len() - 1] {
        assert!(
            compare(whole.get(..cut).unwrap_or_default()).is_err(),
            "cut at {cut}"
        );
    }
}
