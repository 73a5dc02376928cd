//! The unmodified release binary, and unmodified programs of others, as guests of the simulated host.
//!
//! Each scenario in `hack/lab/scenarios` is a test. Where this machine lacks what a test needs, the test counts as
//! ignored and its name says why; with `LAB_REQUIRE_ALL=1` that is a failure.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "the helpers of a test may fail loudly"
)]

mod agents;
mod lifecycle;
mod matrix;
#[path = "../needs/mod.rs"]
mod needs;
mod peers;
mod run;
mod supervisor;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
};

use libtest_mimic::{Arguments, Failed, Trial};

use self::{
    needs::{Need, trial},
    run::{Guest, Run},
};

/// Options of a scenario that is not run as it stands.
const OPTIONS: &[(&str, &[&str])] = &[("old-host", &["--profile", "legacy"]), ("no-hb", &["--no-hb"])];

/// Settings of the daemon in a scenario, as variables.
const SETTINGS: &[(&str, &[(&str, &str)])] = &[
    ("containers", &[("VMTOOLSD_CONTAINERS", "on")]),
    ("power-drain", &[("VMTOOLSD_POWER_DRAIN", "3s")]),
    ("power-reboot-mode", &[("VMTOOLSD_REBOOT_MODE", "powercycle")]),
];

/// Scenarios for programs that are not ours, with the program.
const THIRD_PARTY: &[(&str, Guest)] = &[
    ("open-vm-tools", Guest::OpenVmTools),
    ("registration-third-party", Guest::GovmomiToolbox),
];

/// A test without parameters.
type Test = fn() -> Result<(), Failed>;

fn scenarios() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")
}

fn main() -> ExitCode {
    let mut arguments = Arguments::from_args();
    // Deadlines are real time: one guest at a time.
    arguments.test_threads.get_or_insert(1);

    let mut trials = Vec::new();
    let mut names: Vec<String> = fs::read_dir(scenarios())
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "scenario"))
        .map(|path| path.file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    names.sort();
    assert!(names.len() > 10, "the scenarios are missing: {names:?}");
    for name in names {
        let options = OPTIONS
            .iter()
            .find(|(of, _)| *of == name)
            .map_or(&[][..], |(_, options)| *options);
        if let Some((_, guest)) = THIRD_PARTY.iter().find(|(of, _)| *of == name) {
            trials.extend(third_party(&name, *guest));
            continue;
        }
        trials.push(scenario(
            name.clone(),
            &name,
            Guest::Daemon,
            options,
            &[Need::Ptrace],
        ));
    }
    let as_pid_1 = ["registration", "halt", "stop"];
    for name in as_pid_1 {
        let needs = [Need::Ptrace, Need::Root];
        trials.push(scenario(
            format!("pid-1/{name}"),
            name,
            Guest::Daemon,
            &["--pid-namespace"],
            &needs,
        ));
    }
    let habits: [(&str, &[&str]); 2] = [("nul", &["--nul"]), ("no-cookies", &["--no-cookies"])];
    for (name, options) in habits {
        trials.push(scenario(
            name.to_owned(),
            "registration",
            Guest::Daemon,
            options,
            &[Need::Ptrace],
        ));
    }
    for (bandwidth, options, out, into) in matrix::BANDWIDTHS {
        for channel in matrix::CHANNELS {
            trials.push(trial(
                &format!("checkpoints/{bandwidth}/{channel}"),
                &[Need::Ptrace],
                move || Run::new(Guest::Daemon, options).text(&matrix::scenario(channel, out, into)),
            ));
        }
    }
    trials.push(trial(
        "killed-daemon-ends-supervisor",
        &[Need::Ptrace, Need::Root],
        run::killed_daemon,
    ));
    trials.push(trial("privileges", &[Need::Ptrace, Need::Root], run::privileges));
    trials.push(trial(
        "unprivileged-is-one-process",
        &[Need::Ptrace, Need::Unprivileged],
        run::one_process,
    ));
    trials.push(trial(
        "rpctool-reads-a-variable",
        &[Need::Ptrace, Need::OpenVmTools],
        || run::reads_variable(Guest::Rpctool),
    ));
    trials.push(trial("rpc-reads-a-variable", &[Need::Ptrace], || {
        run::reads_variable(Guest::DaemonRpc)
    }));
    trials.push(trial(
        "support-report-is-bounded",
        &[Need::Ptrace],
        lifecycle::report,
    ));
    trials.push(trial(
        "second-agent-is-said-once",
        &[Need::Ptrace],
        lifecycle::second_agent,
    ));
    trials.push(trial(
        "an-outage-has-two-lines",
        &[Need::Ptrace],
        lifecycle::outages,
    ));
    trials.push(trial(
        "a-stopped-process-is-a-slow-guest",
        &[Need::Ptrace, Need::Unprivileged],
        lifecycle::slow_guest,
    ));
    let told: [(&str, Test); 5] = [
        ("a-hung-host-ends-the-process", lifecycle::hung_host),
        ("both-logs-carry-the-number", lifecycle::both_logs),
        ("clock-is-told-and-never-set", lifecycle::clock),
        ("every-option-is-remembered", lifecycle::options),
        ("many-power-requests", lifecycle::many_power_requests),
    ];
    for (name, test) in told {
        trials.push(trial(name, &[Need::Ptrace], test));
    }
    let processes: [(&str, Test); 5] = [
        ("supervisor/kills-after-its-grace", supervisor::grace),
        ("supervisor/waits-within-its-grace", supervisor::late_stop),
        ("supervisor/forgives-a-late-signal", supervisor::straggler),
        ("supervisor/fails-with-its-daemon", supervisor::unasked_stop),
        ("supervisor/buries-orphans", supervisor::orphans),
    ];
    for (name, test) in processes {
        trials.push(trial(name, &[Need::Root], test));
    }
    let agents: [(&str, &[Need], Test); 3] = [
        ("two-agents/newest-wins", &[Need::Ptrace], agents::newest_wins),
        ("two-agents/first-stays", &[Need::Ptrace], agents::first_stays),
        (
            "two-agents/open-vm-tools",
            &[Need::Ptrace, Need::OpenVmTools],
            agents::open_vm_tools,
        ),
    ];
    for (name, needs, test) in agents {
        trials.push(trial(name, needs, test));
    }
    trials.push(trial("off-vmware-is-idle", &[Need::Ptrace], run::off_vmware));

    trials.push(trial("wrong-settings", &[Need::Ptrace], run::wrong_settings));
    trials.push(trial(
        "peer-check-of-talos-1.13",
        &[],
        peers::registered_or_refused,
    ));
    trials.push(trial("no-socket", &[Need::Ptrace], run::no_socket));
    trials.push(trial("journal", &[Need::Root], run::journal));
    trials.push(trial("stalled-stdout", &[Need::Root], run::stalled_stdout));
    trials.push(trial(
        "daemon-role-is-not-for-root",
        &[Need::Root],
        run::daemon_role,
    ));
    let conclusion = needs::conclude(&arguments, trials);
    run::clean_up();
    conclusion
}

fn scenario(
    test: String,
    scenario: &str,
    guest: Guest,
    options: &'static [&'static str],
    needs: &[Need],
) -> Trial {
    let file = scenarios().join(format!("{scenario}.scenario"));
    let settings = SETTINGS
        .iter()
        .find(|(of, _)| *of == scenario)
        .map_or(&[][..], |(_, settings)| *settings);
    trial(&test, needs, move || -> Result<(), Failed> {
        Run::new(guest, options).with(settings).scenario(&file)
    })
}

/// Without the high bandwidth govmomi's toolbox sends garbage in the last word of a reply, as the host then says.
fn third_party(name: &str, guest: Guest) -> Vec<Trial> {
    let hosts: &'static [(&str, &[&str])] = match guest {
        Guest::GovmomiToolbox => &[("", &["--third-party"]), ("/nul", &["--third-party", "--nul"])],
        _ => &[
            ("", &["--third-party"]),
            ("/no-hb", &["--third-party", "--no-hb"]),
            ("/no-cookies", &["--third-party", "--no-cookies"]),
        ],
    };
    let need = match guest {
        Guest::GovmomiToolbox => Need::Go,
        _ => Need::OpenVmTools,
    };
    hosts
        .iter()
        .map(|(suffix, options)| {
            scenario(
                format!("{name}{suffix}"),
                name,
                guest,
                options,
                &[Need::Ptrace, need],
            )
        })
        .collect()
}
