//! One run of `lab vmx`, with a simulated node beside it.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    os::unix::{
        fs::PermissionsExt,
        net::{UnixDatagram, UnixStream},
    },
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::OnceLock,
    time::{Duration, Instant},
};

use libtest_mimic::Failed;
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};
use serde_json::Value;

/// No test takes longer, whatever goes wrong.
const LIMIT: &str = "120s";

/// For things that take milliseconds.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// `nobody` on most systems; the number is all that matters.
const SOMEBODY: &str = "65534";

/// What runs in the machine.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Guest {
    /// Our release binary.
    Daemon,
    /// The same, as another user than root.
    DaemonUnprivileged,
    /// The same, with its `rpc` command.
    DaemonRpc,
    /// Our release binary twice, as where a DaemonSet was left over beside the extension.
    TwoDaemons,
    /// Our release binary, and Debian's vmtoolsd beside it.
    DaemonAndOpenVmTools,
    /// Debian's vmtoolsd.
    OpenVmTools,
    /// Debian's vmware-rpctool.
    Rpctool,
    /// The program in `guests/govmomi-toolbox`.
    GovmomiToolbox,
}

impl Guest {
    fn command(self) -> Vec<String> {
        let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
        match self {
            Self::Daemon => vec![daemon()],
            Self::DaemonUnprivileged if nix::unistd::geteuid().is_root() => {
                let mut command = words(&[
                    "setpriv",
                    "--reuid",
                    SOMEBODY,
                    "--regid",
                    SOMEBODY,
                    "--clear-groups",
                ]);
                command.push(daemon());
                command
            }
            Self::DaemonUnprivileged => vec![daemon()],
            Self::DaemonRpc => vec![daemon(), "rpc".into(), "info-get guestinfo.hello".into()],
            Self::TwoDaemons => beside(&daemon()),
            Self::DaemonAndOpenVmTools => beside("vmtoolsd"),
            Self::OpenVmTools => words(&["vmtoolsd"]),
            Self::Rpctool => words(&["vmware-rpctool", "info-get guestinfo.hello"]),
            Self::GovmomiToolbox => vec![govmomi()],
        }
    }
}

/// Our release binary as the first process, and another program beside it.
fn beside(other: &str) -> Vec<String> {
    let words = ["sh", "-c", r#""$1" & exec "$2""#, "sh", other];
    words.into_iter().map(str::to_owned).chain([daemon()]).collect()
}

/// The release binary, at a place that every user can reach, as in an image.
pub fn daemon() -> String {
    let copy = BINARY.get_or_init(|| {
        let built = lab::daemon::build().unwrap();
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        fs::copy(built, directory.path().join("talos-vmtoolsd")).unwrap();
        directory
    });
    copy.path().join("talos-vmtoolsd").display().to_string()
}

static BINARY: OnceLock<tempfile::TempDir> = OnceLock::new();

/// Removes the copy of the binary: nothing drops what is static.
pub fn clean_up() {
    if let Some(directory) = BINARY.get() {
        // A rest in the directory for temporary files harms nobody.
        let _ = fs::remove_dir_all(directory.path());
    }
}

/// Built into cargo's directory for temporary files of tests.
fn govmomi() -> String {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    let binary = BINARY.get_or_init(|| {
        let output = Path::new(env!("CARGO_TARGET_TMPDIR")).join("govmomi-toolbox");
        let status = Command::new("go")
            .args(["build", "-o"])
            .arg(&output)
            .arg(".")
            .env("CGO_ENABLED", "0")
            .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/govmomi-toolbox"))
            .status()
            .unwrap();
        assert!(status.success(), "go build: {status}");
        output
    });
    binary.display().to_string()
}

/// A node, a host and a guest that are about to run.
pub struct Run {
    guest: Guest,
    options: &'static [&'static str],
    settings: &'static [(&'static str, &'static str)],
    directory: tempfile::TempDir,
    node: Child,
}

impl Drop for Run {
    fn drop(&mut self) {
        let _ = self.node.kill();
        let _ = self.node.wait();
    }
}

impl Run {
    pub fn new(guest: Guest, options: &'static [&'static str]) -> Self {
        // The daemon is not root, and the socket is to be found by it.
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()
            .unwrap();
        let mut node = Command::new(env!("CARGO_BIN_EXE_lab"))
            .arg("node")
            .arg("--socket")
            .arg(directory.path().join("machine.sock"))
            .arg("--control")
            .arg(directory.path().join("node.control"))
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(node.stdout.take().unwrap()).lines();
        assert!(
            lines
                .by_ref()
                .any(|line| line.unwrap().starts_with("commands on")),
            "the node did not start"
        );
        Self {
            guest,
            options,
            settings: &[],
            directory,
            node,
        }
    }

    /// The same run with these variables in the guest's environment.
    pub fn with(mut self, settings: &'static [(&'static str, &'static str)]) -> Self {
        self.settings = settings;
        self
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn vmx(&self, arguments: &[&str]) -> Command {
        let mut lab = Command::new(env!("CARGO_BIN_EXE_lab"));
        lab.args(["vmx", "--limit", LIMIT, "--transcript"])
            .arg(self.path("transcript.jsonl"))
            .arg("--node-control")
            .arg(self.path("node.control"))
            .args(self.options)
            .args(arguments)
            .arg("--")
            .args(self.guest.command())
            .env("VMTOOLSD_TALOS_SOCKET", self.path("machine.sock"))
            .env("VMTOOLSD_LOG_FORMAT", "json")
            .envs(self.settings.iter().copied());
        lab
    }

    /// Plays a scenario of these lines to its end, and gives what the guest wrote into its log.
    pub fn log_of(&self, lines: &str) -> Result<Vec<Value>, Failed> {
        let scenario = self.path("test.scenario");
        fs::write(&scenario, lines)?;
        let output = self.vmx(&["--scenario", scenario.to_str().unwrap()]).output()?;
        let said = String::from_utf8_lossy(&output.stdout);
        if !output.status.success() {
            return Err(format!(
                "{}\n{said}\n{}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            )
            .into());
        }
        let log = said
            .lines()
            .filter(|line| line.starts_with("{\"time\":"))
            .map(|line| {
                assert!(line.len() < 2048, "{} bytes: {line}", line.len());
                serde_json::from_str(line).unwrap()
            });
        Ok(log.collect())
    }

    /// What the host noted during the run.
    pub fn transcript(&self) -> Result<Vec<Value>, Failed> {
        let transcript = fs::read_to_string(self.path("transcript.jsonl"))?;
        Ok(transcript
            .lines()
            .filter_map(|line| serde_json::from_str(line).ok())
            .collect())
    }

    /// What stands in vmware.log after the run.
    pub fn host_log(&self) -> Result<Vec<String>, Failed> {
        let transcript = self.transcript()?;
        let lines = transcript.iter().filter_map(|event| {
            let text = event["text"].as_str().filter(|_| event["ev"] == "rpci")?;
            Some(text.strip_prefix("log talos-vmtoolsd: ")?.to_owned())
        });
        Ok(lines.collect())
    }

    /// Plays a scenario to its end.
    pub fn scenario(&self, file: &Path) -> Result<(), Failed> {
        let output = self.vmx(&["--scenario", file.to_str().unwrap()]).output()?;
        if output.status.success() {
            return Ok(());
        }
        let said = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Err(format!(
            "{}\n{}\n{}",
            output.status,
            said(&output.stdout),
            said(&output.stderr)
        )
        .into())
    }

    /// Plays a scenario that was made up.
    pub fn text(&self, text: &str) -> Result<(), Failed> {
        let file = self.path("generated.scenario");
        fs::write(&file, text)?;
        self.scenario(&file)
    }

    /// Runs the guest until it is registered, and leaves it running.
    fn registered(&self) -> Result<Running, Failed> {
        let control = self.path("vmx.control");
        let child = self
            .vmx(&["--control", control.to_str().unwrap()])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        let running = Running { child, control };
        running.ask("expect running within 20s")?;
        Ok(running)
    }
}

struct Running {
    child: Child,
    control: PathBuf,
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Running {
    /// One command on the control socket, which takes a moment to appear.
    fn ask(&self, command: &str) -> Result<Value, Failed> {
        let end = Instant::now() + PATIENCE;
        let mut stream = loop {
            match UnixStream::connect(&self.control) {
                Ok(stream) => break stream,
                Err(err) if Instant::now() > end => return Err(err.to_string().into()),
                Err(_) => std::thread::sleep(Duration::from_millis(10)),
            }
        };
        writeln!(stream, "{command}")?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let answer: Value = serde_json::from_str(&line)?;
        if answer["ok"] == true {
            Ok(answer)
        } else {
            Err(format!("{command}: {line}").into())
        }
    }

    /// Processes of the guest by the name of their program, as the kernel has it.
    fn processes(&self) -> Vec<Process> {
        let mut found = Vec::new();
        let mut parents = vec![self.child.id()];
        while let Some(parent) = parents.pop() {
            for task in fs::read_dir(format!("/proc/{parent}/task"))
                .into_iter()
                .flatten()
                .flatten()
            {
                let children = fs::read_to_string(task.path().join("children")).unwrap_or_default();
                parents.extend(children.split_whitespace().map(|pid| pid.parse::<u32>().unwrap()));
            }
            if parent != self.child.id()
                && let Ok(status) = fs::read_to_string(format!("/proc/{parent}/status"))
            {
                found.push(Process { pid: parent, status });
            }
        }
        found
    }

    fn wait(&mut self) -> Result<(i32, Duration, String), Failed> {
        let begin = Instant::now();
        let end = begin + PATIENCE;
        while Instant::now() < end {
            if let Some(status) = self.child.try_wait()? {
                let mut said = String::new();
                if let Some(mut stdout) = self.child.stdout.take() {
                    stdout.read_to_string(&mut said)?;
                }
                return Ok((status.code().unwrap_or(-1), begin.elapsed(), said));
            }
            std::thread::sleep(Duration::from_millis(5));
        }
        Err("lab vmx did not end".into())
    }
}

struct Process {
    pid: u32,
    status: String,
}

impl Process {
    fn field(&self, name: &str) -> &str {
        let line = self
            .status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .unwrap_or_default();
        line.trim_start_matches(':').trim()
    }

    fn is_uid(&self, uid: &str) -> bool {
        self.field("Uid").split_whitespace().all(|field| field == uid)
    }
}

pub fn ensure(holds: bool, what: impl Into<String>) -> Result<(), Failed> {
    if holds { Ok(()) } else { Err(what.into().into()) }
}

/// As process 1 of a PID namespace: the daemon dies, and the supervisor ends with failure within a second.
pub fn killed_daemon() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &["--pid-namespace"]);
    let mut running = run.registered()?;
    let processes = running.processes();
    let daemon = processes
        .iter()
        .find(|process| process.is_uid("50"))
        .ok_or("there is no daemon")?;
    ensure(
        daemon.field("NSpid").split_whitespace().count() == 2,
        "the daemon has no PID namespace of its own",
    )?;
    kill(Pid::from_raw(i32::try_from(daemon.pid).unwrap()), Signal::SIGKILL)?;
    let (code, took, said) = running.wait()?;
    ensure(code == 1, format!("status {code}"))?;
    ensure(took < Duration::from_secs(1), format!("it took {took:?}"))?;
    ensure(said.contains("the daemon was killed"), said)
}

/// The daemon is uid and gid 50, without groups, capabilities and new privileges, and nobody's to dump.
pub fn privileges() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &[]);
    let running = run.registered()?;
    let processes = running.processes();
    ensure(processes.len() == 2, format!("{} processes", processes.len()))?;
    let daemon = processes
        .iter()
        .find(|process| process.is_uid("50"))
        .ok_or("nobody is uid 50")?;
    for set in ["CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb"] {
        ensure(
            daemon.field(set) == "0000000000000000",
            format!("{set}: {}", daemon.field(set)),
        )?;
    }
    ensure(
        daemon.field("Gid").split_whitespace().all(|gid| gid == "50"),
        daemon.field("Gid"),
    )?;
    ensure(daemon.field("Groups").is_empty(), daemon.field("Groups"))?;
    ensure(daemon.field("NoNewPrivs") == "1", "new privileges")?;
    // The kernel gives the files of an undumpable process to root.
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/environ", daemon.pid))?);
    ensure(owner == 0, format!("dumpable: its files belong to {owner}"))?;
    let supervisor = processes
        .iter()
        .find(|process| process.is_uid("0"))
        .ok_or("there is no supervisor")?;
    ensure(supervisor.field("Threads") == "1", "the supervisor has threads")
}

/// Without root there is one process, and it stays dumpable.
pub fn one_process() -> Result<(), Failed> {
    let run = Run::new(Guest::DaemonUnprivileged, &[]);
    let running = run.registered()?;
    let processes = running.processes();
    let [process] = processes.as_slice() else {
        return Err(format!("{} processes", processes.len()).into());
    };
    let uid = process
        .field("Uid")
        .split_whitespace()
        .next()
        .unwrap_or_default()
        .to_owned();
    let owner = std::os::unix::fs::MetadataExt::uid(&fs::metadata(format!("/proc/{}/environ", process.pid))?);
    ensure(uid == owner.to_string(), format!("uid {uid}, files of {owner}"))
}

/// A program reads a guest variable and prints it.
pub fn reads_variable(guest: Guest) -> Result<(), Failed> {
    let options: &[&str] = if guest == Guest::Rpctool {
        &["--third-party"]
    } else {
        &[]
    };
    let run = Run::new(guest, options);
    let output = run.vmx(&["--variable", "guestinfo.hello=world"]).output()?;
    ensure(output.status.success(), format!("{output:?}"))?;
    ensure(output.stdout == b"world\n", format!("{output:?}"))?;
    let output = run.vmx(&[]).output()?;
    ensure(output.status.code() == Some(1), format!("{output:?}"))?;
    ensure(
        String::from_utf8_lossy(&output.stderr).contains("No value found"),
        format!("{output:?}"),
    )
}

/// Off VMware: one line that says so, idle, and status 0 at once after SIGTERM.
pub fn off_vmware() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &["--not-vmware"]);
    let scenario = run.path("idle.scenario");
    fs::write(
        &scenario,
        "expect no open tclo for 2s\nsignal TERM\nexpect exit 0 within 1s\n",
    )?;
    let output = run.vmx(&["--scenario", scenario.to_str().unwrap()]).output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure(output.status.success(), format!("{output:?}"))?;
    ensure(said.matches("no VMware guest").count() == 1, said)
}

/// Settings that cannot be used are told, each with its place, and the service starts all the same.
pub fn wrong_settings() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &[]);
    let file = run.path("config.yaml");
    fs::write(&file, "host:\n  poll_max_ms: fast\nreport: [\n")?;
    let scenario = run.path("wrong.scenario");
    fs::write(
        &scenario,
        "expect running within 10s\nsignal TERM\nexpect exit 0 within 1s\n",
    )?;
    let output = run
        .vmx(&["--scenario", scenario.to_str().unwrap()])
        .env("VMTOOLSD_CONFIG", &file)
        .env("VMTOOLSD_HOSTNAME", "long")
        .env("VMTOOLSD_COLOUR", "blue")
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure(output.status.success(), format!("{output:?}"))?;
    let told: Vec<Value> = said
        .lines()
        .filter_map(|line| serde_json::from_str(line).ok())
        .filter(|line: &Value| line["msg"] == "a setting is not used")
        .collect();
    let places: Vec<&str> = told.iter().filter_map(|line| line["setting"].as_str()).collect();
    let at = |line| format!("{}:{line}", file.display());
    let wanted = [
        at("4"),
        at("2: host.poll_max_ms"),
        "VMTOOLSD_COLOUR".into(),
        "VMTOOLSD_HOSTNAME".into(),
    ];
    ensure(places.len() == 4, format!("{places:?}"))?;
    ensure(
        wanted.iter().all(|wanted| places.contains(&wanted.as_str())),
        format!("{places:?}, not {wanted:?}"),
    )
}

/// Without the machine API the host is served, nothing is made up, and the log says it once.
pub fn no_socket() -> Result<(), Failed> {
    let run = Run::new(Guest::Daemon, &[]);
    let scenario = run.path("alone.scenario");
    let text = "set ping 200ms\nexpect running within 10s\nwait 4s\nexpect heartbeat green\n\
                count rpci \"SetGuestInfo  1 \" = 0\ncount rpci \"SetGuestInfo  10 \" = 0\n\
                count rpci \"SetGuestInfo  11 \" = 0\nsignal TERM\nexpect exit 0 within 1s\n";
    fs::write(&scenario, text)?;
    let output = run
        .vmx(&["--scenario", scenario.to_str().unwrap()])
        .env("VMTOOLSD_TALOS_SOCKET", run.path("absent/machine.sock"))
        .output()?;
    let said = String::from_utf8_lossy(&output.stdout);
    ensure(output.status.success(), format!("{output:?}"))?;
    ensure(said.matches("Talos does not answer").count() == 1, said)
}

/// Where the journal's socket exists the log goes there: in a mount namespace of the test's own.
pub fn journal() -> Result<(), Failed> {
    let directory = tempfile::Builder::new()
        .permissions(fs::Permissions::from_mode(0o755))
        .tempdir()?;
    let socket = directory.path().join("socket");
    let journal = UnixDatagram::bind(&socket)?;
    fs::set_permissions(&socket, fs::Permissions::from_mode(0o777))?;
    journal.set_read_timeout(Some(PATIENCE))?;
    let script = "mount -t tmpfs none /run && mkdir -p /run/systemd/journal && chmod 755 /run \
                  && mount --bind \"$1\" /run/systemd/journal && exec \"$2\" run";
    let mut child = Command::new("unshare")
        .args(["--mount", "sh", "-c", script, "sh"])
        .arg(directory.path())
        .arg(daemon())
        .stdout(Stdio::piped())
        .spawn()?;
    let mut heard = Vec::new();
    let mut datagram = [0; 4096];
    while !heard
        .iter()
        .any(|line: &String| line.contains("this is no VMware guest"))
    {
        let length = journal.recv(&mut datagram)?;
        heard.push(String::from_utf8_lossy(&datagram[..length]).into_owned());
    }
    let line = heard.last().map(String::as_str).unwrap_or_default();
    // A field with its length, as the journal's native protocol has it.
    let field = |name: &str, value: &str| {
        let length = u64::try_from(value.len()).unwrap().to_le_bytes();
        format!("{name}\n{}{value}\n", String::from_utf8_lossy(&length))
    };
    ensure(line.contains(&field("SYSLOG_IDENTIFIER", "talos-vmtoolsd")), line)?;
    ensure(line.contains(&field("PRIORITY", "5")), line)?;
    kill(Pid::from_raw(i32::try_from(child.id()).unwrap()), Signal::SIGTERM)?;
    let status = child.wait()?;
    let mut stdout = String::new();
    child.stdout.take().unwrap().read_to_string(&mut stdout)?;
    ensure(status.success(), format!("{status}"))?;
    ensure(stdout.is_empty(), stdout)
}

/// The supervisor ends at once when the daemon dies, although nobody reads its last line.
pub fn stalled_stdout() -> Result<(), Failed> {
    let (reader, writer) = nix::unistd::pipe2(nix::fcntl::OFlag::O_CLOEXEC)?;
    let mut child = Command::new(daemon())
        .env("VMTOOLSD_LOG_FORMAT", "json")
        .stdout(Stdio::from(writer.try_clone()?))
        .spawn()?;
    let children = format!("/proc/{0}/task/{0}/children", child.id());
    let end = Instant::now() + PATIENCE;
    let pid = loop {
        let text = fs::read_to_string(&children)?;
        if let Some(pid) = text.split_whitespace().next() {
            break pid.parse::<i32>().unwrap();
        }
        ensure(Instant::now() < end, "there is no daemon")?;
        std::thread::sleep(Duration::from_millis(5));
    };
    // Nothing more goes in. The flag is the pipe's, so it is taken back before the daemon could see it.
    let flags =
        nix::fcntl::OFlag::from_bits_retain(nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_GETFL)?);
    let set = |flags| nix::fcntl::fcntl(&writer, nix::fcntl::FcntlArg::F_SETFL(flags));
    set(flags | nix::fcntl::OFlag::O_NONBLOCK)?;
    for chunk in [4096, 1] {
        while nix::unistd::write(&writer, &vec![b' '; chunk]).is_ok() {}
    }
    set(flags)?;
    kill(Pid::from_raw(pid), Signal::SIGKILL)?;
    let killed = Instant::now();
    let status = loop {
        if let Some(status) = child.try_wait()? {
            break status;
        }
        if killed.elapsed() > Duration::from_secs(1) {
            child.kill()?;
            child.wait()?;
            return Err("the supervisor hangs on its stdout".into());
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    drop(reader);
    ensure(status.code() == Some(1), format!("{status}"))
}

/// Root cannot take the daemon's role: it would keep all its rights.
pub fn daemon_role() -> Result<(), Failed> {
    let output = Command::new(daemon()).arg("daemon").output()?;
    let said = String::from_utf8_lossy(&output.stderr);
    ensure(output.status.code() == Some(1), format!("{output:?}"))?;
    ensure(said.contains("the supervisor's to give"), said)
}
