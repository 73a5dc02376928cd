//! The release binary before a node that looks at the process of its callers, as Talos does from 1.13 on.

use std::{
    path::Path,
    process::{Command, Output, Stdio},
};

use lab::node::{Config, Node, Source, release::Release, script::Script};
use libtest_mimic::Failed;
use serde_json::Value;

use super::run::{daemon, ensure};

fn query(socket: &Path) -> Result<std::process::Child, Failed> {
    Ok(Command::new(daemon())
        .args(["query", "--json"])
        .env("VMTOOLSD_TALOS_SOCKET", socket)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?)
}

fn hostname(output: &Output) -> Option<String> {
    let said: Value = serde_json::from_slice(&output.stdout).ok()?;
    let value = said.pointer("/snapshot/hostname/value/hostname")?;
    value.as_str().map(str::to_owned)
}

/// A process that is registered a moment after its start is served, another one is not, and 1.12 serves anybody.
pub fn registered_or_refused() -> Result<(), Failed> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    for (release, registered, served) in [
        (Release::V1_13, true, true),
        (Release::V1_14, true, true),
        (Release::V1_13, false, false),
        (Release::V1_12, false, true),
    ] {
        let directory = tempfile::tempdir()?;
        let socket = directory.path().join("machine.sock");
        let config = Config {
            socket: socket.clone(),
            control: None,
            release: Some(release),
            source: Source::Script(Box::new(Script::control_plane()?)),
        };
        let node = runtime.block_on(Node::start(config))?;
        runtime.block_on(node.apply("peer-check on"))?;
        let child = query(&socket)?;
        if registered {
            // The call is there before the process is known.
            runtime.block_on(node.apply("expect call Version within 10s"))?;
            runtime.block_on(node.apply(&format!("service-pid {}", child.id())))?;
        }
        let output = child.wait_with_output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        let error = String::from_utf8_lossy(&output.stderr);
        let case = format!("{release}, registered {registered}: {output:?}");
        if served {
            ensure(hostname(&output).as_deref() == Some("talos-cp-1"), case)?;
        } else {
            ensure(hostname(&output).is_none(), case.clone())?;
            ensure(
                said.contains("not authorized") || error.contains("not authorized"),
                case,
            )?;
        }
        runtime.block_on(node.shutdown());
    }
    Ok(())
}
