//! Programs that would change the machine the laboratory runs on, known by name.

/// Names of programs for power, network, freezing and the clock, and of the front ends through which they are asked
/// for. Sorted.
const GUARDED: &[&str] = &[
    "NetworkManager",
    "arptables",
    "bridge",
    "brctl",
    "busctl",
    "chronyc",
    "chronyd",
    "connmanctl",
    "dbus-send",
    "dhclient",
    "dhcpcd",
    "ebtables",
    "ethtool",
    "fsfreeze",
    "gdbus",
    "halt",
    "hostnamectl",
    "hwclock",
    "ifconfig",
    "ifdown",
    "ifenslave",
    "ifup",
    "init",
    "initctl",
    "ip",
    "iwconfig",
    "kexec",
    "loginctl",
    "networkctl",
    "nft",
    "nmcli",
    "ntpd",
    "ntpdate",
    "poweroff",
    "reboot",
    "route",
    "rtcwake",
    "service",
    "shutdown",
    "systemctl",
    "tc",
    "telinit",
    "timedatectl",
    "udhcpc",
    "wg",
    "xfs_freeze",
];

/// Families of them: everything that begins so.
const GUARDED_FAMILIES: &[&str] = &["pm-", "iptables", "ip6tables"];

/// Programs that are several programs, chosen by their first argument.
const MULTICALL: &[&str] = &["busybox", "toybox"];

/// Whether a program called `name` is guarded whatever its arguments are.
pub(crate) fn is_guarded(name: &str) -> bool {
    GUARDED.contains(&name) || GUARDED_FAMILIES.iter().any(|family| name.starts_with(family))
}

/// Whether executing `path`, which is really `resolved`, with these arguments is guarded. The first argument is the
/// program's own name.
pub(super) fn is_guarded_execution(path: &str, resolved: &str, arguments: &[String]) -> bool {
    let names = [basename(path), basename(resolved)];
    if names.into_iter().any(is_guarded) {
        return true;
    }
    let called = |index: usize| arguments.get(index).map_or("", |argument| basename(argument));
    if names.into_iter().any(|name| MULTICALL.contains(&name)) {
        return [called(0), called(1)]
            .into_iter()
            .any(|name| is_guarded(name) || name == "date" && sets_the_date(arguments));
    }
    names.contains(&"date") && sets_the_date(arguments)
}

/// Whether `date` with these arguments sets the clock: `-s`, `--set`, or an operand of the form `MMDDhhmm[[CC]YY][.ss]`.
fn sets_the_date(arguments: &[String]) -> bool {
    arguments.iter().skip(1).any(|argument| {
        let short = argument.starts_with('-') && !argument.starts_with("--");
        let digits = argument.bytes().take_while(u8::is_ascii_digit).count();
        argument.starts_with("--s") || short && argument.contains('s') || digits >= 8
    })
}

fn basename(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(path: &str, resolved: &str, arguments: &[&str]) -> bool {
        let arguments: Vec<String> = arguments.iter().map(|argument| (*argument).to_owned()).collect();
        is_guarded_execution(path, resolved, &arguments)
    }

    #[test]
    fn power_network_freeze_and_clock_are_guarded() {
        for name in [
            "shutdown",
            "reboot",
            "halt",
            "poweroff",
            "init",
            "telinit",
            "systemctl",
            "loginctl",
            "pm-suspend",
            "ip",
            "ifconfig",
            "ifup",
            "ifdown",
            "nmcli",
            "dhclient",
            "route",
            "iptables",
            "iptables-restore",
            "nft",
            "fsfreeze",
            "xfs_freeze",
            "hwclock",
        ] {
            assert!(guarded(&format!("/sbin/{name}"), "", &[name]), "{name}");
            assert!(guarded(name, "", &[]), "{name}");
        }
    }

    #[test]
    fn other_names_are_not() {
        for name in ["sh", "ipcs", "initdb", "true", "shutdownd", "vmtoolsd", ""] {
            assert!(
                !guarded(&format!("/usr/bin/{name}"), name, &[name, "reboot"]),
                "{name}"
            );
        }
    }

    #[test]
    fn links_and_multicall_programs_do_not_hide_one() {
        assert!(guarded("/tmp/innocent", "/usr/bin/systemctl", &["innocent"]));
        assert!(guarded("/bin/busybox", "/bin/busybox", &["busybox", "reboot"]));
        assert!(guarded("/tmp/x", "/bin/busybox", &["/sbin/reboot"]));
        assert!(!guarded("/bin/busybox", "/bin/busybox", &["busybox", "ls"]));
    }

    #[test]
    fn date_is_guarded_when_it_sets() {
        for arguments in [
            &["date", "-s", "12:00"][..],
            &["date", "--set=1"],
            &["date", "-us", "1"],
            &["date", "010112002030.5"],
        ] {
            assert!(guarded("/bin/date", "/bin/date", arguments), "{arguments:?}");
        }
        for arguments in [&["date"][..], &["date", "-u"], &["date", "+%s"], &["date", "-R"]] {
            assert!(!guarded("/bin/date", "/bin/date", arguments), "{arguments:?}");
        }
    }
}
