//! An agent under measurement: a program as the guest of its own `lab vmx`, which is told what to do over its socket.

use std::{
    env, fs,
    fs::File,
    io::{BufRead, BufReader, Write},
    os::unix::{fs::PermissionsExt, net::UnixStream},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, bail};
use serde_json::Value;

/// How long the simulation may take to listen, and the node to start.
const START: Duration = Duration::from_secs(30);
/// Longest wait for an answer of the control socket.
const ANSWER: Duration = Duration::from_secs(3600);
/// Pause between two looks at something that is about to appear.
const LOOK: Duration = Duration::from_millis(20);

/// What can be measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Our release binary.
    Daemon,
    /// vmtoolsd of the system's package.
    OpenVmTools,
    /// The program in `hack/lab/guests/govmomi-toolbox`.
    Govmomi,
}

impl Kind {
    /// Its name in tables.
    pub fn name(self) -> &'static str {
        match self {
            Self::Daemon => "talos-vmtoolsd",
            Self::OpenVmTools => "open-vm-tools",
            Self::Govmomi => "govmomi toolbox",
        }
    }

    /// The program, or why it is not here.
    fn program(self, directory: &Path) -> anyhow::Result<PathBuf> {
        match self {
            Self::Daemon => {
                // At a place that the unprivileged daemon can reach.
                let copy = directory.join("talos-vmtoolsd");
                fs::copy(crate::daemon::build()?, &copy)?;
                Ok(copy)
            }
            Self::OpenVmTools => found("vmtoolsd").context("vmtoolsd is not installed"),
            Self::Govmomi => {
                found("go").context("Go is not installed")?;
                let program = directory.join("govmomi-toolbox");
                let status = Command::new("go")
                    .args(["build", "-o"])
                    .arg(&program)
                    .arg(".")
                    .env("CGO_ENABLED", "0")
                    .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("guests/govmomi-toolbox"))
                    .stderr(Stdio::null())
                    .status()?;
                if !status.success() {
                    bail!("go build: {status}");
                }
                Ok(program)
            }
        }
    }
}

fn found(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH")?;
    env::split_paths(&path)
        .map(|directory| directory.join(program))
        .find(|path| path.is_file())
}

/// A running agent. Dropping it ends it.
pub struct Agent {
    /// What it is.
    pub kind: Kind,
    directory: tempfile::TempDir,
    children: Vec<Child>,
    control: BufReader<UnixStream>,
}

impl Agent {
    /// Starts an agent and waits until it is registered. `options` are those of `lab vmx`.
    ///
    /// # Errors
    /// When the program is not here, or does not register.
    pub fn start(kind: Kind, options: &[&str]) -> anyhow::Result<Self> {
        let directory = tempfile::Builder::new()
            .permissions(fs::Permissions::from_mode(0o755))
            .tempdir()?;
        let program = kind.program(directory.path())?;
        let socket = directory.path().join("machine.sock");
        let mut children = Vec::new();
        let started = start(kind, &program, options, directory.path(), &socket, &mut children);
        let control = match started {
            Ok(control) => BufReader::new(control),
            Err(error) => {
                end(&mut children);
                return Err(error);
            }
        };
        let mut agent = Self {
            kind,
            directory,
            children,
            control,
        };
        agent.ask("expect running within 30s")?;
        Ok(agent)
    }

    /// Starts the agents that are here, ours first; the others are left out with a line.
    ///
    /// # Errors
    /// When ours does not run.
    pub fn start_all(kinds: &[Kind], options: &[&str]) -> anyhow::Result<Vec<Self>> {
        let mut agents = vec![Self::start(Kind::Daemon, options)?];
        for kind in kinds {
            match Self::start(*kind, options) {
                Ok(agent) => agents.push(agent),
                Err(error) => println!("without {}: {error:#}", kind.name()),
            }
        }
        Ok(agents)
    }

    /// One command, one answer, which has to be good.
    ///
    /// # Errors
    /// When the command fails; the text says what was seen instead.
    pub fn ask(&mut self, command: &str) -> anyhow::Result<Value> {
        let answer = self.try_ask(command)?;
        if answer.get("ok") == Some(&Value::Bool(true)) {
            return Ok(answer);
        }
        bail!("{}: {command}: {answer}", self.kind.name())
    }

    /// One command, one answer, whatever it is.
    ///
    /// # Errors
    /// When the simulation does not answer.
    pub fn try_ask(&mut self, command: &str) -> anyhow::Result<Value> {
        writeln!(self.control.get_mut(), "{command}")?;
        let mut line = String::new();
        self.control.read_line(&mut line)?;
        serde_json::from_str(&line).with_context(|| format!("{}: {command}: no answer", self.kind.name()))
    }

    /// Lines that the agent wrote so far.
    ///
    /// # Errors
    /// When the file cannot be read.
    pub fn log_lines(&self) -> anyhow::Result<usize> {
        let file = File::open(self.directory.path().join("log"))?;
        Ok(BufReader::new(file).lines().count())
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        end(&mut self.children);
    }
}

/// Starts what it takes, noting each child so that it can be ended.
fn start(
    kind: Kind,
    program: &Path,
    options: &[&str],
    directory: &Path,
    socket: &Path,
    children: &mut Vec<Child>,
) -> anyhow::Result<UnixStream> {
    let lab = env::current_exe()?;
    if kind == Kind::Daemon {
        let mut node = Command::new(&lab)
            .arg("node")
            .arg("--socket")
            .arg(socket)
            .arg("--control")
            .arg(directory.join("node.control"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()?;
        let listening = appears(socket, &mut node);
        children.push(node);
        listening?;
    }
    let control = directory.join("vmx.control");
    let mut vmx = Command::new(&lab);
    vmx.args(["vmx", "--control"]).arg(&control).args(options);
    if kind == Kind::Daemon {
        vmx.arg("--node-control").arg(directory.join("node.control"));
    }
    if kind != Kind::Daemon {
        vmx.args(["--third-party", "--allow", "any"]);
    }
    vmx.arg("--")
        .arg(program)
        .env("VMTOOLSD_TALOS_SOCKET", socket)
        .env("VMTOOLSD_LOG_FORMAT", "json")
        .stdin(Stdio::null())
        .stdout(File::create(directory.join("log"))?)
        .stderr(File::create(directory.join("errors"))?);
    let mut vmx = vmx.spawn()?;
    let listening = appears(&control, &mut vmx);
    children.push(vmx);
    listening.with_context(|| fs::read_to_string(directory.join("errors")).unwrap_or_default())?;
    let stream = UnixStream::connect(&control)?;
    stream.set_read_timeout(Some(ANSWER))?;
    Ok(stream)
}

/// Waits for the socket of a child.
fn appears(path: &Path, child: &mut Child) -> anyhow::Result<()> {
    let end = Instant::now() + START;
    while Instant::now() < end {
        if path.exists() {
            return Ok(());
        }
        if let Some(status) = child.try_wait()? {
            bail!("it ended with {status}");
        }
        thread::sleep(LOOK);
    }
    bail!("{} did not appear", path.display())
}

/// The guest dies with its tracer.
fn end(children: &mut Vec<Child>) {
    for mut child in children.drain(..) {
        // Gone already is gone.
        drop(child.kill());
        drop(child.wait());
    }
}
