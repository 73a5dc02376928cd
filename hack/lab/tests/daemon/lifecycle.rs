//! What the daemon's own log tells of its life. The scenarios see the host's side of the same.

use std::fmt::Write;

use libtest_mimic::Failed;
use serde_json::Value;

use super::run::{Guest, Run, ensure};

/// Lines of one feature whose message contains a text.
fn lines<'a>(log: &'a [Value], feature: &str, text: &str) -> Vec<&'a Value> {
    log.iter()
        .filter(|line| line["feature"] == feature && line["msg"].as_str().unwrap().contains(text))
        .collect()
}

/// `vmsupport.start`: the whole state in at most 60 lines with one number, whatever the level; `guestLogLevel` opens the
/// log up to debug and closes it again.
pub fn report() -> Result<(), Failed> {
    let log = Run::new(Guest::Daemon, &[]).log_of(
        "expect running within 10s\n\
         expect rpci \"SetGuestInfo  10 \" within 10s\n\
         wait 1s\n\
         send \"Set_Option guestLogLevel debug\"\n\
         expect reply \"OK \" within 1s\n\
         wait 500ms\n\
         send \"Set_Option synctime 7\"\n\
         expect reply \"OK \" within 1s\n\
         send \"vmsupport.start\"\n\
         expect reply \"OK \" within 1s\n\
         send \"Set_Option guestLogLevel normal\"\n\
         expect reply \"OK \" within 1s\n\
         wait 500ms\n\
         send \"Set_Option synctime 8\"\n\
         expect reply \"OK \" within 1s\n\
         wait 1s\n",
    )?;
    let report: Vec<_> = log.iter().filter(|line| line["part"].is_string()).collect();
    ensure(
        report.len() <= 60 && report.len() > 10,
        format!("{} lines", report.len()),
    )?;
    let number = &report[0]["operation"];
    ensure(
        number.is_u64() && report.iter().all(|line| line["operation"] == *number),
        format!("{number}"),
    )?;
    for (part, text) in [
        ("program", "talos-vmtoolsd 0."),
        ("settings", "machine.sock"),
        ("options", "guestLogLevel=debug"),
        ("counters", "resets: 1"),
        ("history", "0 outages"),
        ("clock", "guest minus host: "),
        ("node", "hostname: {"),
        ("node", "addresses: "),
        ("would publish", "nic-info nics: {"),
        ("would publish", "host-name: \""),
        ("would publish", "uptime: \""),
        // Where each value comes from.
        ("would publish", ", from HostnameStatuses, Nodenames"),
        ("would publish", ", from CLOCK_BOOTTIME"),
        ("would publish", ", from MachineStatuses"),
    ] {
        let told = report
            .iter()
            .any(|line| line["part"] == part && line["msg"].as_str().unwrap().contains(text));
        ensure(told, format!("{part} without {text}: {report:#?}"))?;
    }
    let options = lines(&log, "options", "sets an option");
    let of_synctime = |value: &str| {
        options
            .iter()
            .any(|line| line["name"] == "synctime" && line["value"] == value)
    };
    ensure(of_synctime("7"), "no debug lines at level debug")?;
    ensure(!of_synctime("8"), "debug lines after the level was taken back")
}

/// A second agent on the channel is said once in the node's log, and the ordinary lines of an outage end with it.
pub fn second_agent() -> Result<(), Failed> {
    let mut scenario = String::from("set ping off\nexpect running within 10s\nwait 3s\n");
    for _ in 0..6 {
        scenario
            .push_str("close tclo\nexpect open tclo within 15s\nexpect registered within 10s\nwait 100ms\n");
    }
    let log = Run::new(Guest::Daemon, &[]).log_of(&scenario)?;
    let said = lines(&log, "tclo", "does a second agent run on this node");
    ensure(said.len() == 1, format!("said {} times", said.len()))?;
    let ordinary = lines(&log, "tclo", "no channel to the host").len();
    ensure(ordinary == 2, format!("{ordinary} lines about six losses"))?;
    ensure(
        lines(&log, "tclo", "works again").len() == 2,
        "lines about the ends of outages",
    )
}

/// However an outage is found, by a poll or by a call that was queued first, it is two lines.
pub fn outages() -> Result<(), Failed> {
    let mut scenario = String::from("set ping off\nexpect running within 10s\nwait 5s\n");
    let outages = 2;
    for outage in 0..outages {
        let _ = writeln!(
            scenario,
            "fault open every status 0\nclose\nnode hostname set renamed-{outage}\nwait 3s\nfaults clear\n\
             expect running within 15s\nexpect hostname \"renamed-{outage}\" within 5s\nwait 1s"
        );
    }
    let log = Run::new(Guest::Daemon, &[]).log_of(&scenario)?;
    let told: Vec<_> = log
        .iter()
        .filter(|line| line["feature"] == "tclo" || line["feature"] == "rpci")
        .collect();
    ensure(told.len() == 2 * outages, format!("{told:#?}"))?;
    let pairs = told.chunks(2).all(|pair| {
        pair[0]["msg"] == "no channel to the host"
            && pair[1]["msg"] == "the channel to the host works again"
            && !pair[1]["outage"].is_null()
    });
    ensure(pairs, format!("{told:#?}"))?;
    let unable = log.iter().filter(|line| line["level"] == "warn").count();
    ensure(
        unable == outages,
        format!("{unable} warnings of {outages} outages: {log:#?}"),
    )
}

/// A process that did not run for a while says so: the machine was slow, not the program.
pub fn slow_guest() -> Result<(), Failed> {
    Run::new(Guest::DaemonUnprivileged, &[])
        .log_of(
            "set ping off\nset broadcast off\n\
             expect running within 10s\n\
             expect rpci \"update.tools.health normal\" within 10s\n\
             signal STOP\n\
             wait 13s\n\
             signal CONT\n\
             expect rpci \"update.tools.health guest_slow\" within 10s\n\
             expect rpci \"update.tools.health normal\" within 10s\n",
        )
        .map(drop)
}

/// A host that answers a step after 25 s only: the watchdog gives the process up, says which loop hung, and the service
/// ends with failure, so that Talos starts it again and the heartbeat comes back with it.
pub fn hung_host() -> Result<(), Failed> {
    let log = Run::new(Guest::Daemon, &[]).log_of(
        "set ping off\n\
         set broadcast off\n\
         expect running within 10s\n\
         fault recvsize tclo stall 25s\n\
         expect exit 1 within 38s\n",
    )?;
    let dead: Vec<_> = log
        .iter()
        .filter(|line| line["msg"].as_str().unwrap().contains("a loop is dead"))
        .collect();
    ensure(
        dead.len() == 1 && dead[0]["name"] == "backdoor",
        format!("{dead:?}: {log:#?}"),
    )
}

/// Each line in vmware.log ends with the number of an operation, and the node's log has a line with the same.
pub fn both_logs() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &[]);
    let log = run.log_of(
        "expect running within 10s\n\
         node power run locked\n\
         wait 3s\n\
         send \"OS_Reboot\"\n\
         expect rpci \"log talos-vmtoolsd: reboot failed\" within 5s\n\
         send \"Time_Synchronize 1\"\n\
         expect reply \"OK \" within 1s\n\
         send \"vmsupport.start\"\n\
         expect rpci \"log talos-vmtoolsd: support: \" within 2s\n\
         vmotion\n\
         expect rpci \"log talos-vmtoolsd: interrupted \" within 10s\n\
         signal TERM\n\
         expect exit 0 within 1s\n",
    )?;
    let told = run.host_log()?;
    // Started, accepted, failed, the clock, support, interrupted, stopping.
    ensure((7..=10).contains(&told.len()), format!("{told:#?}"))?;
    for line in &told {
        let number = line
            .rsplit_once("(#")
            .and_then(|(_, rest)| rest.split([')', ',']).next())
            .and_then(|number| number.parse::<u64>().ok())
            .ok_or_else(|| format!("no number: {line}"))?;
        ensure(
            log.iter().any(|entry| entry["operation"] == number),
            format!("the node's log knows nothing of {line}"),
        )?;
    }
    Ok(())
}

/// The clocks move apart and together again: both are said once and published, and nobody touches the node's clock.
pub fn clock() -> Result<(), Failed> {
    let log = Run::new(Guest::Daemon, &[]).log_of(
        "set ping off\nset broadcast off\n\
         expect running within 10s\n\
         expect rpci \"info-set guestinfo.talos.clock-offset \\0\" within 10s\n\
         set clock ahead 5s\n\
         reset\n\
         expect variable guestinfo.talos.clock-offset = \"-5.0\" within 10s\n\
         send \"Set_Option synctime 1\"\n\
         expect reply \"OK \" within 1s\n\
         send \"Time_Synchronize 1\"\n\
         expect reply \"OK \" within 1s\n\
         reset\n\
         expect rpci \"info-set guestinfo.talos.clock-offset -5.0\" within 10s\n\
         set clock ahead 0s\n\
         reset\n\
         expect variable guestinfo.talos.clock-offset = \"\" within 10s\n\
         expect no violation any\n",
    )?;
    let apart = lines(&log, "clock", "is off the host's");
    ensure(
        apart.len() == 1 && apart[0]["offset"] == "-5.0" && apart[0]["operation"].is_u64(),
        format!("{apart:?}"),
    )?;
    let together = lines(&log, "clock", "are together");
    ensure(together.len() == 1, format!("{together:?}"))?;
    let refused = lines(&log, "options", "asks for a step of the clock");
    ensure(refused.len() == 1, format!("{refused:?}"))
}

/// Every option that hosts are known to set, and one that none knows yet: accepted, remembered, and in the report.
pub fn options() -> Result<(), Failed> {
    let names = OPTIONS.split_ascii_whitespace().chain(["of.a.newer.host"]);
    let mut scenario = String::from("expect running within 10s\n");
    let mut expected = Vec::new();
    for (index, name) in names.enumerate() {
        let value = index + 100;
        scenario.push_str(&format!(
            "send \"Set_Option {name} {value}\"\nexpect reply \"OK \" within 1s\n"
        ));
        expected.push(format!("{name}={value}"));
    }
    scenario.push_str("send \"vmsupport.start\"\nexpect rpci \"log talos-vmtoolsd: support: \" within 90s\n");
    let log = Run::new(Guest::Daemon, &[]).log_of(&scenario)?;
    let remembered: Vec<&str> = log
        .iter()
        .filter(|line| line["part"] == "options")
        .flat_map(|line| line["msg"].as_str().unwrap().split(' '))
        .collect();
    for option in expected {
        ensure(
            remembered.contains(&option.as_str()),
            format!("{option} is not in {remembered:?}"),
        )?;
    }
    Ok(())
}

/// All but `guestLogLevel`, which asks for a report too and has a test of its own.
const OPTIONS: &str = "broadcastIP synctime synctime.period time.synchronize.allow time.synchronize.tools.enable \
    time.synchronize.tools.startup time.synchronize.tools.startup.backward time.synchronize.tools.slewCorrection \
    time.synchronize.tools.percentCorrection time.synchronize.guest.resync time.synchronize.guest.resync.timeout \
    toolScripts.afterPowerOn toolScripts.beforePowerOff toolScripts.afterResume toolScripts.beforeSuspend copypaste \
    autohide enableDnD mapRootHgfsShare linkRootHgfsShare enableMessageBusTunnel enableAppInfo enableGuestStoreAccess \
    enableDeviceHelper";

/// Twelve equal requests are one call, and twenty restarts in a row are twenty: each acknowledged, with a status.
pub fn many_power_requests() -> Result<(), Failed> {
    let mut scenario = String::from("expect running within 10s\nnode power run locked\nnode reset-calls\n");
    for restart in 1..=20 {
        scenario.push_str(&format!(
            "send \"OS_Reboot\"\n\
             expect reply \"OK \" within 1s\n\
             expect rpci \"tools.os.statechange.status 1 2\" within 3s\n\
             expect rpci \"info-set guestinfo.talos.last-error reboot failed\" within 5s\n\
             node expect call Reboot count {restart} within 1s\n"
        ));
    }
    scenario.push_str("node power run drain 60s\n");
    for _ in 0..12 {
        scenario.push_str(
            "send \"OS_Halt\"\n\
             expect reply \"OK \" within 1s\n\
             expect rpci \"tools.os.statechange.status 1 1\" within 3s\n",
        );
    }
    scenario.push_str("node expect call Shutdown count 1 within 1s\nexpect heartbeat green\n");
    Run::new(Guest::Daemon, &[]).log_of(&scenario).map(drop)
}
