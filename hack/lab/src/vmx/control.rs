//! The control socket: the commands of scenarios, one per line, answered by one line of JSON each.
//!
//! ```text
//! send "ping"              {"ok":true,"id":17}
//! expect reply "OK "       {"ok":true}
//! state                    {"ok":true,"tools_running_status":"running",...}
//! nonsense                 {"ok":false,"error":"\"nonsense\" is not a command"}
//! ```

use std::{
    fs, io,
    io::{BufRead, BufReader, Read, Write},
    os::unix::net::{UnixListener, UnixStream},
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use serde_json::{Map, Value, json};

use super::scenario::{command::Command, session::Session};

/// Longest line in bytes.
const MAX_LINE: u64 = 65536;
/// Connections at a time.
const MAX_CONNECTIONS: usize = 16;
/// How long a client may be silent, or slow in reading.
const IDLE: Duration = Duration::from_secs(3600);

/// A socket that exists as long as this does.
#[derive(Debug)]
pub struct Control {
    path: PathBuf,
}

impl Control {
    /// Listens at `path`; `session` makes the session of each connection. A socket that is left over is replaced.
    pub fn listen(path: &Path, session: impl Fn() -> Session + Send + Sync + 'static) -> io::Result<Self> {
        match fs::remove_file(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let listener = UnixListener::bind(path)?;
        let session = Arc::new(session);
        let connections = Arc::new(AtomicUsize::new(0));
        // The threads end with the program, which ends with the guest.
        thread::Builder::new().name("control".to_owned()).spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if connections.fetch_add(1, Ordering::SeqCst) >= MAX_CONNECTIONS {
                    connections.fetch_sub(1, Ordering::SeqCst);
                    continue;
                }
                let (session, count) = (Arc::clone(&session), Arc::clone(&connections));
                let serving = thread::Builder::new()
                    .name("control-client".to_owned())
                    .spawn(move || {
                        // A client that goes away is no error.
                        drop(serve(&stream, session()));
                        count.fetch_sub(1, Ordering::SeqCst);
                    });
                if serving.is_err() {
                    connections.fetch_sub(1, Ordering::SeqCst);
                }
            }
        })?;
        Ok(Self {
            path: path.to_owned(),
        })
    }
}

impl Drop for Control {
    fn drop(&mut self) {
        // Gone already is gone.
        drop(fs::remove_file(&self.path));
    }
}

fn serve(stream: &UnixStream, mut session: Session) -> io::Result<()> {
    stream.set_read_timeout(Some(IDLE))?;
    stream.set_write_timeout(Some(IDLE))?;
    let mut reader = BufReader::new(stream);
    let mut writer = stream;
    loop {
        let mut line = String::new();
        if reader.by_ref().take(MAX_LINE).read_line(&mut line)? == 0 {
            return Ok(());
        }
        if let Some(answer) = answer(&mut session, &line) {
            writer.write_all(format!("{answer}\n").as_bytes())?;
        }
    }
}

/// The answer to a line; none to an empty one.
fn answer(session: &mut Session, line: &str) -> Option<Value> {
    let failed = |error: String, seen: Vec<String>| json!({ "ok": false, "error": error, "seen": seen });
    let command = match Command::parse(line) {
        Ok(command) => command?,
        Err(error) => return Some(failed(error.to_string(), Vec::new())),
    };
    Some(match session.run(&command) {
        Err(failure) => failed(failure.message, failure.seen),
        Ok(Value::Object(fields)) => {
            let mut answer = Map::from_iter([("ok".to_owned(), Value::Bool(true))]);
            answer.extend(fields);
            Value::Object(answer)
        }
        Ok(Value::Null) => json!({ "ok": true }),
        Ok(value) => json!({ "ok": true, "value": value }),
    })
}
