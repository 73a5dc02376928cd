//! A small tools daemon, as a guest of the simulated host.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicI32, Ordering},
    },
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use lab::vmx::{
    clock::SystemClock,
    host::{Config, Exit, SharedHost},
    machine::Machine,
    measurement::Measurement,
    scenario::{Scenario, session::Session},
    transcript::Transcript,
};

use crate::guest::{COOKIES, Guest, Opened, RPCI, TCLO};

const PID: i32 = 44;
/// Pause between two polls.
const PAUSE: Duration = Duration::from_millis(1);
/// No test runs longer; a daemon that nobody stops ends by itself.
const LIFETIME: Duration = Duration::from_secs(60);
/// One adapter, 00:50:56:aa:bb:01 with 10.20.30.41/24.
const NIC_REPORT: &[u8] = b"SetGuestInfo  10 \0\0\0\x03\0\0\0\x01\0\0\0\x01\0\0\0\x1100:50:56:aa:bb:01\0\0\0\
    \0\0\0\x01\0\0\0\x01\0\0\0\x04\x0a\x14\x1e\x29\0\0\0\x18\0\0\0\x01\0\0\0\x04\0\0\0\x01\0\0\0\x01\
    \0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0";

/// What the daemon does differently.
#[derive(Clone, Copy, Default)]
pub struct Habits {
    /// Ends with status 3 when it is asked to halt.
    pub dies_at_halt: bool,
    /// Takes so long for every state change.
    pub slow: Duration,
    /// Never reports the end of a state change.
    pub keeps_states_to_itself: bool,
}

pub struct Daemon {
    pub host: SharedHost,
    machine: Arc<Process>,
    thread: Option<JoinHandle<()>>,
}

/// The machine of the test: signals reach the daemon's thread by a flag.
struct Process {
    signal: AtomicI32,
    stop: AtomicBool,
}

impl Machine for Process {
    fn signal(&self, signal: i32) -> io::Result<()> {
        self.signal.store(signal, Ordering::SeqCst);
        Ok(())
    }

    fn measure(&self) -> Measurement {
        Measurement {
            resident: 3 << 20,
            resident_peak: 4 << 20,
            ..Measurement::default()
        }
    }

    fn stop(&self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

impl Daemon {
    pub fn start(config: Config, habits: Habits) -> Self {
        let host = SharedHost::new(config, Transcript::new(None), Arc::new(SystemClock::start()));
        let machine = Arc::new(Process {
            signal: AtomicI32::new(0),
            stop: AtomicBool::new(false),
        });
        let thread = {
            let (host, machine) = (host.clone(), Arc::clone(&machine));
            thread::spawn(move || {
                let exit = live(&host, &machine, habits);
                host.with(|host, now| host.exited(now, PID, exit));
            })
        };
        Self {
            host,
            machine,
            thread: Some(thread),
        }
    }

    pub fn session(&self) -> Session {
        Session::new(self.host.clone(), Arc::<Process>::clone(&self.machine), None)
    }

    pub fn machine(&self) -> Arc<dyn Machine> {
        Arc::<Process>::clone(&self.machine)
    }

    /// Plays a scenario.
    pub fn play(&self, text: &str) -> Result<(), String> {
        Scenario::parse("test.scenario", text)
            .unwrap()
            .play(&self.host, &mut self.session())
    }
}

impl Drop for Daemon {
    fn drop(&mut self) {
        self.machine.stop();
        if let Some(thread) = self.thread.take() {
            // A daemon that panicked has failed its test already.
            drop(thread.join());
        }
    }
}

fn live(host: &SharedHost, process: &Process, habits: Habits) -> Exit {
    let mut guest = Guest::on(host.clone());
    let started = Instant::now();
    let mut channels: Option<(Opened, Opened)> = None;
    let mut reply = Vec::new();
    while started.elapsed() < LIFETIME && !process.stop.load(Ordering::SeqCst) {
        if process.signal.load(Ordering::SeqCst) == 15 {
            for channel in channels.iter().flat_map(|(tclo, rpci)| [*tclo, *rpci]) {
                guest.step(channel, 6, 0);
            }
            return Exit::Status(0);
        }
        let Some((tclo, rpci)) = channels else {
            reply.clear();
            channels = guest.open(TCLO | COOKIES).zip(guest.open(RPCI | COOKIES));
            continue;
        };
        let exchange = guest
            .send(tclo, &std::mem::take(&mut reply))
            .and_then(|()| guest.receive(tclo));
        match exchange {
            Ok(None) => thread::park_timeout(PAUSE),
            Ok(Some(request)) => {
                let command = String::from_utf8_lossy(&request)
                    .trim_end_matches('\0')
                    .to_owned();
                if habits.dies_at_halt && command == "OS_Halt" {
                    return Exit::Status(3);
                }
                if command.starts_with("OS_") {
                    thread::sleep(habits.slow);
                }
                reply = answer(&mut guest, rpci, &command, habits);
            }
            Err(_) => {
                for channel in [tclo, rpci] {
                    guest.step(channel, 6, 0);
                }
                channels = None;
            }
        }
    }
    Exit::Signal(9)
}

fn answer(guest: &mut Guest, rpci: Opened, command: &str, habits: Habits) -> Vec<u8> {
    let mut tell = |request: &[u8]| drop(guest.rpc(rpci, request));
    match command {
        "reset" => b"OK ATR toolbox".to_vec(),
        "Capabilities_Register" => {
            tell(b"tools.capability.statechange ");
            tell(b"tools.set.versiontype 2147483647 4\0");
            tell(b"SetGuestInfo  1 talos-cp-1\0");
            tell(NIC_REPORT);
            tell(b"info-set guestinfo.ip 10.20.30.41\0");
            b"OK ".to_vec()
        }
        "OS_Halt" | "OS_Reboot" | "OS_PowerOn" | "OS_Resume" => {
            let state = ["", "OS_Halt", "OS_Reboot", "OS_PowerOn", "OS_Resume"]
                .iter()
                .position(|known| *known == command)
                .unwrap();
            if !habits.keeps_states_to_itself {
                tell(format!("tools.os.statechange.status 1 {state}\0").as_bytes());
            }
            b"OK ".to_vec()
        }
        command if command == "ping" || command.starts_with("Set_Option ") => b"OK ".to_vec(),
        _ => b"ERROR Unknown Command".to_vec(),
    }
}
