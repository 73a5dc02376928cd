//! The control socket, and the line to the node's one.

use std::{
    io::{BufRead, BufReader, Write},
    os::unix::net::{UnixListener, UnixStream},
    thread,
    time::Duration,
};

use lab::vmx::{
    control::Control,
    host::Config,
    scenario::{Scenario, session::Session},
};
use serde_json::Value;

use crate::daemon::{Daemon, Habits};

struct Client {
    reader: BufReader<UnixStream>,
}

impl Client {
    fn connect(path: &std::path::Path) -> Self {
        let stream = UnixStream::connect(path).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        Self {
            reader: BufReader::new(stream),
        }
    }

    fn ask(&mut self, line: &str) -> Value {
        self.reader
            .get_mut()
            .write_all(format!("{line}\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        self.reader.read_line(&mut answer).unwrap();
        serde_json::from_str(&answer).unwrap()
    }
}

#[test]
fn lines_are_answered_by_json() {
    let daemon = Daemon::start(Config::default(), Habits::default());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("control");
    let control = {
        let (host, machine) = (daemon.host.clone(), daemon.machine());
        Control::listen(&path, move || Session::new(host.clone(), machine.clone(), None)).unwrap()
    };
    let mut client = Client::connect(&path);
    let mut other = Client::connect(&path);

    let answer = client.ask("expect running within 5s");
    assert_eq!(answer["ok"], true);
    assert!(answer["after_ms"].is_number(), "{answer}");
    let answer = client.ask("send \"ping\"");
    assert_eq!(answer["ok"], true);
    assert!(answer["id"].as_u64().unwrap() > 1);
    assert_eq!(client.ask("expect reply \"OK \" within 1s")["ok"], true);

    let state = other.ask("state");
    assert_eq!(state["ok"], true);
    assert_eq!(state["tools_running_status"], "running");
    assert_eq!(state["tools_version_status"], "guestToolsUnmanaged");
    assert_eq!(state["heartbeat"], "green");
    assert_eq!(state["host_name"], "talos-cp-1");
    assert_eq!(state["ip_address"], "10.20.30.41");
    assert_eq!(state["net"][0]["mac"], "00:50:56:aa:bb:01");
    assert_eq!(state["variables"]["guestinfo.ip"], "10.20.30.41");
    assert_eq!(state["guest_state_change_supported"], true);

    let summary = other.ask("summary");
    assert!(summary["polls"].as_u64().unwrap() > 0);
    assert_eq!(summary["resident_peak_kib"], 4096);
    let events = other.ask("transcript 5");
    assert_eq!(events["value"].as_array().unwrap().len(), 5);

    let answer = client.ask("nonsense");
    assert_eq!(answer["ok"], false);
    assert_eq!(answer["error"], "\"nonsense\" is not a command");
    let answer = client.ask("expect hostname \"other\"");
    assert_eq!(
        (&answer["ok"], &answer["error"]),
        (&Value::Bool(false), &Value::from("not so"))
    );
    assert_eq!(
        answer["seen"].as_array().unwrap().last().unwrap(),
        "host name \"talos-cp-1\""
    );

    drop(control);
    assert!(!path.exists());
}

#[test]
fn a_node_is_asked_and_its_answer_counts() {
    let daemon = Daemon::start(Config::default(), Habits::default());
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("node");
    let listener = UnixListener::bind(&path).unwrap();
    let node = thread::spawn(move || {
        let mut asked = Vec::new();
        for answer in [
            "{\"ok\":true,\"generation\":2}\n",
            "{\"ok\":false,\"error\":\"no such link\"}\n",
            "garbage\n",
        ] {
            let (stream, _) = listener.accept().unwrap();
            let mut line = String::new();
            BufReader::new(&stream).read_line(&mut line).unwrap();
            asked.push(line);
            (&stream).write_all(answer.as_bytes()).unwrap();
        }
        asked
    });
    let mut session = Session::new(daemon.host.clone(), daemon.machine(), Some(path));
    let mut play = |text: &str| {
        Scenario::parse("node", text)
            .unwrap()
            .play(&daemon.host, &mut session)
    };
    play("node address add eth0 10.0.0.5/24 # not a comment").unwrap();
    let message = play("node address add eth9 10.0.0.5/24").unwrap_err();
    assert!(
        message.contains("the node answered {\"error\":\"no such link\",\"ok\":false}"),
        "{message}"
    );
    let message = play("node what").unwrap_err();
    assert!(message.contains("node at "), "{message}");
    let asked = node.join().unwrap();
    assert_eq!(asked[0], "address add eth0 10.0.0.5/24 # not a comment\n");
    let message = play("node again").unwrap_err();
    assert!(message.contains("node at "), "{message}");
}
