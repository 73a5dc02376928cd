//! The node, the host and the daemon, and what is done to them.

#![expect(
    clippy::indexing_slicing,
    reason = "a key that a JSON value lacks reads as null"
)]

use std::{
    fs,
    net::Ipv4Addr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use nix::sys::signal::Signal;
use serde_json::Value;
use tokio::runtime::Runtime;

use super::{
    Act, View,
    govc::{self, Info},
};
use crate::{
    node::{self, Node, Source, release::Release},
    vmx::{
        clock::SystemClock,
        host::{Checkpoint, Config, Exit, Host, SharedHost},
        machine::{self, Guest, Machine, StartError},
        summary::{Baseline, Summary},
        tclo::Timing,
        transcript::{Event, Kind, Transcript, info_id, milliseconds},
        view::ToolsStatus,
    },
};

/// Longest wait for anything: the whole demo stays under a minute.
const PATIENCE: Duration = Duration::from_secs(10);

/// Poll pauses reach their ceiling before the address changes: the hardest moment for a latency.
const QUIET: Duration = Duration::from_secs(3);

/// An address of a network that is set aside for examples (RFC 5737).
const NEW_ADDRESS: Ipv4Addr = Ipv4Addr::new(198, 51, 100, 77);

/// `SetGuestInfo  10`: the network adapters (guestInfo.h).
const NIC_INFO: u32 = 10;

/// What did not happen.
#[derive(Debug, thiserror::Error)]
pub(super) enum Failure {
    #[error("the guest cannot be started: {0}")]
    Start(#[from] StartError),
    #[error("the node cannot be started: {0}")]
    Node(#[from] node::StartError),
    #[error("no runtime for the node: {0}")]
    Runtime(std::io::Error),
    #[error("the transcript cannot be written: {0}")]
    Transcript(std::io::Error),
    #[error("{what} did not happen within {PATIENCE:?}")]
    Missed { what: &'static str },
    #[error("{what}: {seen}")]
    Wrong { what: &'static str, seen: String },
}

pub(super) struct Stage {
    runtime: Runtime,
    node: Node,
    host: SharedHost,
    machine: Arc<dyn Machine>,
    log: PathBuf,
    transcript: PathBuf,
}

impl Stage {
    pub(super) fn set(directory: &Path, program: &Path, talos: Option<Release>) -> Result<Self, Failure> {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .map_err(Failure::Runtime)?;
        let socket = directory.join("machine.sock");
        let node = runtime.block_on(Node::start(node::Config {
            socket: socket.clone(),
            control: None,
            release: talos,
            source: Source::Mirror,
        }))?;
        // The host's own questions are left out where a moment is measured.
        let timing = Timing {
            broadcast: None,
            ..Timing::default()
        };
        let config = Config {
            timing,
            ..Config::default()
        };
        let transcript = directory.join("vmx.jsonl");
        let file = Box::new(fs::File::create(&transcript).map_err(Failure::Transcript)?);
        let clock = Arc::new(SystemClock::start());
        let host = SharedHost::new(config, Transcript::new(Some(file)), clock);
        let log = directory.join("daemon.log");
        let guest = Guest {
            command: vec![program.into()],
            environment: vec![
                ("VMTOOLSD_TALOS_SOCKET".into(), socket.into()),
                ("VMTOOLSD_LOG_FORMAT".into(), "json".into()),
            ],
            output: Some(log.clone()),
            ..Guest::default()
        };
        let machine = machine::start(&host, &guest)?;
        Ok(Self {
            runtime,
            node,
            host,
            machine,
            log,
            transcript,
        })
    }

    pub(super) fn notices(&self) -> Vec<String> {
        let release = format!(
            "Talos {} is simulated from this machine's own network and name",
            self.node.store().release()
        );
        self.node.notices().iter().cloned().chain([release]).collect()
    }

    /// What vCenter would show at this moment.
    pub(super) fn view(&self) -> View {
        self.host
            .with(|host, now| serde_json::to_value(host.view(now)).unwrap_or(Value::Null))
    }

    pub(super) fn finds_the_host(&self) -> Result<Act, Failure> {
        let open = self.await_event("finding the host", 0, |event| event.kind == Kind::Open)?;
        let at = milliseconds(open.at);
        Ok(Act::took(
            "found the host by CPUID and opened a channel through the backdoor",
            "TCLO open",
            at,
        ))
    }

    pub(super) fn registers(&self) -> Result<Act, Failure> {
        let status = |host: &mut Host, now| {
            (host.view(now).tools_running_status == ToolsStatus::Running).then_some(now)
        };
        let at = self
            .wait(status)
            .ok_or(Failure::Missed { what: "registration" })?;
        let view = self.view();
        let seen = format!(
            "tools running, version {} ({})",
            view["tools_version"],
            text(&view["tools_version_status"])
        );
        Ok(Act::took("registered with the host", seen, milliseconds(at)))
    }

    /// The first report of the network, measured from the host's `reset`.
    pub(super) fn reports(&self) -> Result<Act, Failure> {
        let reset = self.await_event("the answer to reset", 0, |event| {
            event.kind == Kind::TcloReply && event.payload().starts_with(b"OK ATR")
        })?;
        let report = self.await_event("the report of the network", 0, is_nic_info)?;
        // The name may follow.
        let named = |host: &mut Host, now| {
            let view = host.view(now);
            (view.host_name.is_some() && view.guest_full_name.is_some() && view.ip_address.is_some())
                .then_some(())
        };
        self.wait(named).ok_or(Failure::Missed {
            what: "the report of name, system and address",
        })?;
        let adapters = self.host.with(|host, now| host.view(now).net.len());
        let took = milliseconds(report.at.saturating_sub(reset.at));
        Ok(Act::took(
            "reported this machine's network",
            format!("{adapters} adapter(s), after the reset"),
            took,
        ))
    }

    /// A new address in Talos, until it is on the wire.
    pub(super) fn address_changes(&self) -> Result<Act, Failure> {
        let link = self.adapter()?;
        self.pause(QUIET);
        let (before, since) = self.host.with(|host, now| (now, host.transcript().next()));
        let command = format!("address add {link} {NEW_ADDRESS}/24");
        self.runtime
            .block_on(self.node.apply(&command))
            .map_err(|err| Failure::Wrong {
                what: "the address change",
                seen: err.to_string(),
            })?;
        let has_it = |host: &mut Host, now| {
            let net = host.view(now).net;
            net.iter()
                .flat_map(|nic| &nic.addresses)
                .any(|address| address.ip == NEW_ADDRESS)
                .then_some(())
        };
        self.wait(has_it).ok_or(Failure::Missed {
            what: "the new address on the wire",
        })?;
        let report = self.await_event("the new report", since, |event| {
            is_nic_info(event) && holds(event, NEW_ADDRESS)
        })?;
        let took = milliseconds(report.at.saturating_sub(before));
        let pause = "while the host is polled twice a second only";
        Ok(Act::took(
            "an address was added in Talos and is in vCenter",
            format!("{NEW_ADDRESS}, {pause}"),
            took,
        ))
    }

    /// A vMotion that loses every channel: the daemon opens new ones, registers, and tells everything again.
    pub(super) fn moves(&self) -> Result<Act, Failure> {
        // What the address change still owes is told first.
        self.pause(QUIET);
        let (before, since) = self.host.with(|host, now| {
            host.checkpoint(now, Checkpoint::Hard);
            (now, host.transcript().next())
        });
        let open = self.await_event("a new channel after the vMotion", since, |event| {
            event.kind == Kind::Open
        })?;
        let report = self.await_event("the report after the vMotion", open.sequence, is_nic_info)?;
        let running = |host: &mut Host, now| {
            (host.view(now).tools_running_status == ToolsStatus::Running).then_some(())
        };
        self.wait(running).ok_or(Failure::Missed {
            what: "registration after the vMotion",
        })?;
        let took = milliseconds(report.at.saturating_sub(before));
        let seen = format!(
            "lost after {:.0} ms at the next poll",
            milliseconds(open.at.saturating_sub(before))
        );
        Ok(Act::took(
            "a vMotion lost every channel; registered again and told everything",
            seen,
            took,
        ))
    }

    pub(super) fn is_asked_to_shut_down(&self) -> Result<Act, Failure> {
        let since = self.host.with(|host, _| host.transcript().next());
        self.host
            .with(|host, now| host.send(now, b"OS_Halt"))
            .map_err(|err| Failure::Wrong {
                what: "Shut Down Guest",
                seen: err.to_string(),
            })?;
        let asked = self.await_event("the fetch of OS_Halt", since, |event| {
            event.kind == Kind::TcloSend && event.payload() == b"OS_Halt"
        })?;
        let reply = self.await_event("the answer to OS_Halt", since, |event| {
            event.kind == Kind::TcloReply && event.id == asked.id
        })?;
        let answer = reply.readable();
        if reply.payload() != b"OK " {
            return Err(Failure::Wrong {
                what: "the answer to OS_Halt",
                seen: answer,
            });
        }
        let status = self.await_event("the status of the shutdown", since, |event| {
            event.kind == Kind::Rpci && event.payload().starts_with(b"tools.os.statechange.status 1 1")
        })?;
        let took = milliseconds(status.at.saturating_sub(asked.at));
        Ok(Act::took(
            "Shut Down Guest: answered OK, and reported as accepted by Talos",
            "status 1 for state 1",
            took,
        ))
    }

    pub(super) fn node_shuts_down(&self) -> Result<Act, Failure> {
        let calls: Vec<_> = self
            .node
            .calls()
            .into_iter()
            .filter(|call| call.method == "Shutdown")
            .collect();
        match calls.as_slice() {
            [call] if call.outcome == Some("OK") => Ok(Act::new(
                "the node was told to shut down, once",
                format!("Shutdown with role {}", call.roles.join(", ")),
            )),
            calls => Err(Failure::Wrong {
                what: "the node's Shutdown call",
                seen: format!("{calls:?}"),
            }),
        }
    }

    pub(super) fn stops(&self) -> Result<Act, Failure> {
        let before = self.host.now();
        self.machine
            .signal(Signal::SIGTERM as i32)
            .map_err(|err| Failure::Wrong {
                what: "SIGTERM",
                seen: err.to_string(),
            })?;
        let exit = self.wait(|host, _| host.exit).ok_or(Failure::Missed {
            what: "the end after SIGTERM",
        })?;
        let took = milliseconds(self.host.now().saturating_sub(before));
        let violations = self.host.with(|host, _| host.violations());
        match (exit, violations) {
            (Exit::Status(0), 0) => Ok(Act::took(
                "ended on SIGTERM",
                "status 0, no violation of the protocol",
                took,
            )),
            (exit, violations) => Err(Failure::Wrong {
                what: "the end of the daemon",
                seen: format!("{exit:?}, {violations} violations of the protocol"),
            }),
        }
    }

    /// The figures until this moment.
    pub(super) fn figures(&self) -> Value {
        let measurement = self.machine.measure();
        let summary = self
            .host
            .with(|host, now| Summary::new(host, now, measurement, &Baseline::default()));
        serde_json::to_value(summary).unwrap_or(Value::Null)
    }

    /// What `govc vm.info` prints of all that was told until now. `binary` is the daemon's, where it was built.
    pub(super) fn vm_info(&self, binary: &Path) -> Info {
        self.runtime
            .block_on(govc::vm_info(binary, &self.transcript, &self.view()))
    }

    /// Ends everything; gives what the daemon said.
    pub(super) fn strike(self) -> String {
        self.machine.stop();
        self.runtime.block_on(self.node.shutdown());
        self.runtime.shutdown_background();
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    /// The link behind the first reported adapter.
    fn adapter(&self) -> Result<String, Failure> {
        let mac = self
            .host
            .with(|host, now| host.view(now).net.first().map(|nic| nic.mac.clone()));
        let state = self
            .runtime
            .block_on(self.node.apply("state"))
            .map_err(|err| Failure::Wrong {
                what: "the node's state",
                seen: err.to_string(),
            })?;
        let resources = state["resources"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        let link = resources.iter().find(|resource| {
            let spec = &resource["spec"];
            let macs = [&spec["permanentAddr"], &spec["hardwareAddr"]];
            resource["type"] == "LinkStatuses.net.talos.dev"
                && macs.iter().any(|addr| addr.as_str() == mac.as_deref())
        });
        link.and_then(|link| link["id"].as_str())
            .map(str::to_owned)
            .ok_or(Failure::Missed {
                what: "the report of an adapter that the node has",
            })
    }

    fn pause(&self, time: Duration) {
        let end = self.host.now() + time;
        // Nothing is looked for: the clock ends it.
        let _: Option<()> = self.host.wait(end, |_, _| None);
    }

    fn wait<T>(&self, look: impl FnMut(&mut Host, Duration) -> Option<T>) -> Option<T> {
        self.host.wait(self.host.now() + PATIENCE, look)
    }

    /// The first event from number `since` on that is meant.
    fn await_event(
        &self,
        what: &'static str,
        since: u64,
        is_it: impl Fn(&Event) -> bool,
    ) -> Result<Event, Failure> {
        self.wait(|host, _| host.transcript().since(since).find(|event| is_it(event)).cloned())
            .ok_or(Failure::Missed { what })
    }
}

fn is_nic_info(event: &Event) -> bool {
    event.kind == Kind::Rpci && info_id(event.payload()) == Some(NIC_INFO)
}

/// Whether the bytes of this IPv4 address are in the message.
fn holds(event: &Event, address: Ipv4Addr) -> bool {
    let octets = address.octets();
    event
        .payload()
        .windows(octets.len())
        .any(|window| window == octets)
}

fn text(value: &Value) -> &str {
    value.as_str().unwrap_or("unknown")
}
