//! The committed protobuf code is what `proto/` generates. `UPDATE=1` rewrites it.

use std::{env, fs, path::Path};

use prost_types::FileDescriptorSet;

type Outcome = Result<(), Box<dyn std::error::Error>>;

const PROTOS: [&str; 4] = ["common.proto", "machine.proto", "cosi.proto", "spec.proto"];

fn descriptors(root: &Path) -> Result<FileDescriptorSet, Box<dyn std::error::Error>> {
    Ok(protox::compile(PROTOS, [root.join("proto")])?)
}

fn compare(generated: &Path, committed: &Path) -> Outcome {
    for entry in fs::read_dir(generated)? {
        let entry = entry?;
        let fresh = fs::read_to_string(entry.path())?;
        if fresh.trim().is_empty() {
            continue;
        }
        let target = committed.join(entry.file_name());
        if env::var_os("UPDATE").is_some() {
            fs::write(&target, &fresh)?;
        }
        let present = fs::read_to_string(&target)?;
        assert!(
            present == fresh,
            "{} differs from what proto/ generates: run UPDATE=1 cargo test --test generated_code",
            target.display()
        );
    }
    Ok(())
}

#[test]
fn messages_and_clients_are_up_to_date() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .build_server(false)
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(descriptors(root)?)?;
    compare(out.path(), &root.join("src/pb"))
}

#[test]
fn servers_of_the_simulated_node_are_up_to_date() -> Outcome {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let out = tempfile::tempdir()?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_transport(false)
        .extern_path(".common", "::talos_vmtoolsd::pb::common")
        .extern_path(".machine", "::talos_vmtoolsd::pb::machine")
        .extern_path(".cosi.resource", "::talos_vmtoolsd::pb::cosi::resource")
        .extern_path(".spec", "::talos_vmtoolsd::pb::spec")
        .out_dir(out.path())
        .compile_fds(descriptors(root)?)?;
    compare(out.path(), &root.join("hack/lab/src/pb"))
}
