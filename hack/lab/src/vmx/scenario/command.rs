//! The commands of a scenario line.

use std::time::Duration;

use clap::ValueEnum;
use nix::sys::signal::Signal;

use super::{
    expectation::{Comparison, Expectation},
    lexer::{self, LexError, Word},
};
use crate::vmx::{
    backdoor::Protocol,
    fault::{Fault, FaultError, number},
    host::{Checkpoint, HostClock, TcloOwner, vix_request},
    rpci::{Override, Profile},
    violation::Violation,
};

/// The slowest access that a scenario may ask for.
const MAX_SLOW: Duration = Duration::from_secs(1);

/// A line, understood.
#[derive(Clone, Debug)]
pub enum Command {
    /// A remark for the transcript.
    Note,
    /// Time passes.
    Wait(Duration),
    /// Expectations look at what follows.
    Remember,
    /// What stood before holds when the guest starts.
    PowerOn,
    /// A request of the host.
    Send(Vec<u8>),
    /// A request of the host, and the time until its reply.
    Ask(Vec<u8>),
    /// This many hostile requests.
    Flood(u64),
    /// The host's view is remembered.
    RememberHost,
    /// The VM goes back to the remembered point.
    Revert,
    /// The host's process starts again.
    Restart,
    /// All channels get other cookies.
    ChangeCookies,
    /// Registration again.
    Reset,
    /// The VM is interrupted.
    Checkpoint(Checkpoint),
    /// The VM comes back from suspend.
    Resume,
    /// The host closes channels.
    Close(Option<Protocol>),
    /// The administrator changes a guest variable.
    Variable(String, Option<Vec<u8>>),
    /// The VM gets a machine id.
    MachineId(String),
    /// A setting of the host.
    Setting(Setting),
    /// A fault is armed.
    Fault(Fault),
    /// All are disarmed.
    ClearFaults,
    /// The answer to a command is overridden, or not any more.
    Override(Vec<u8>, Option<Override>),
    /// A kind of violation is allowed.
    Allow(String),
    /// A signal to the guest.
    Signal(i32),
    /// A line for the simulated node.
    Node(String),
    /// Figures are taken for a while.
    Measure(Duration),
    /// Something has to be so.
    Expect(Expectation),
    /// Requests are counted.
    Count {
        /// How they begin.
        prefix: Vec<u8>,
        /// What the count is compared with.
        comparison: Comparison,
    },
    /// The vCenter view, for the control socket.
    State,
    /// The summary, for the control socket.
    Summary,
    /// The last events, for the control socket.
    Transcript(usize),
}

/// A setting that can change while the guest runs.
#[derive(Clone, Copy, Debug)]
pub enum Setting {
    /// Pause between pings.
    Ping(Option<Duration>),
    /// Pause between wishes for the primary address.
    Broadcast(Option<Duration>),
    /// When the host gives up a request.
    RequestTimeout(Duration),
    /// Requests end with a NUL.
    TrailingNul(bool),
    /// The high-bandwidth port is offered.
    HighBandwidth(bool),
    /// OPEN understands the cookie flag.
    Cookies(bool),
    /// `tools.set.versiontype` is known.
    VersionType(bool),
    /// What kind of host.
    Profile(Profile),
    /// EAX and EBX of GETVERSION; the access faults where there are none.
    Version(Option<(u32, u32)>),
    /// Channels that other programs of the guest use.
    ForeignChannels(usize),
    /// What each access costs, in milliseconds.
    Slow(u32),
    /// The host's time of day.
    Clock(HostClock),
    /// The newest command for it that the host knows.
    TimeCommand(u16),
    /// Which process may hold a TCLO channel.
    TcloOwner(TcloOwner),
}

/// Why a line is no command.
#[derive(Debug, thiserror::Error)]
pub enum CommandError {
    /// It has no words.
    #[error(transparent)]
    Lex(#[from] LexError),
    /// The words of a fault are wrong.
    #[error("fault: {0}")]
    Fault(#[from] FaultError),
    /// The line ends too early.
    #[error("{0} expected at the end of the line")]
    Missing(&'static str),
    /// A word that is not what is expected at its place.
    #[error("{word:?} is not {expected}")]
    Word {
        /// The word.
        word: String,
        /// What stands there.
        expected: String,
    },
    /// More words than the command has.
    #[error("{0:?} is one word too many")]
    Extra(String),
}

impl Command {
    /// Reads a line; `None` if it is empty or a comment.
    pub fn parse(line: &str) -> Result<Option<Self>, CommandError> {
        // The node has its own language: its words go through as they stand.
        if let Some(rest) = line.trim_start().strip_prefix("node ") {
            return Ok(Some(Self::Node(rest.trim().to_owned())));
        }
        let words = lexer::words(line)?;
        let mut reader = Reader {
            words: &words,
            read: 0,
        };
        let Some(first) = reader.word() else {
            return Ok(None);
        };
        let command = match first.text().as_str() {
            "note" => {
                reader.text("a text")?;
                Self::Note
            }
            "wait" => Self::Wait(reader.duration()?),
            "measure" => Self::Measure(reader.duration()?),
            "remember" if reader.keyword("host") => Self::RememberHost,
            "remember" => Self::Remember,
            "revert" => Self::Revert,
            "restart" => Self::Restart,
            "power-on" => Self::PowerOn,
            "change" => {
                reader.one("cookies", |word| (word == "cookies").then_some(()))?;
                Self::ChangeCookies
            }
            "flood" => Self::Flood(reader.one("a number of requests", |word| word.parse().ok())?),
            "ask" => Self::Ask(reader.request()?),
            "send" => Self::Send(reader.request()?),
            "reset" => Self::Reset,
            "resume" => Self::Resume,
            "vmotion" if reader.keyword("hard") => Self::Checkpoint(Checkpoint::Hard),
            "vmotion" => Self::Checkpoint(Checkpoint::Soft),
            "close" => Self::Close(reader.protocol()),
            "set" => reader.set()?,
            "unset" => {
                reader.one("variable", |word| (word == "variable").then_some(()))?;
                Self::Variable(reader.text("the name of a variable")?, None)
            }
            "fault" => {
                let words: Vec<String> = reader.rest().iter().map(Word::text).collect();
                Self::Fault(Fault::parse(&words)?)
            }
            "faults" => {
                reader.one("clear", |word| (word == "clear").then_some(()))?;
                Self::ClearFaults
            }
            "rpci" => reader.override_()?,
            "allow" => {
                reader.one("violation", |word| (word == "violation").then_some(()))?;
                Self::Allow(reader.violation()?)
            }
            "signal" => Self::Signal(reader.signal()?),
            "expect" => Self::Expect(Expectation::parse(&mut reader)?),
            "count" => {
                reader.one("rpci", |word| (word == "rpci").then_some(()))?;
                Self::Count {
                    prefix: reader.bytes("the beginning of a request")?,
                    comparison: reader.comparison()?,
                }
            }
            "state" => Self::State,
            "summary" => Self::Summary,
            "transcript" => Self::Transcript(reader.one("a number of events", |word| word.parse().ok())?),
            _ => {
                return Err(CommandError::Word {
                    word: first.text(),
                    expected: "a command".to_owned(),
                });
            }
        };
        reader.end()?;
        Ok(Some(command))
    }
}

/// Pairs of hexadecimal digits, with or without spaces between them.
fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let digits: Vec<char> = text
        .chars()
        .filter(|character| !character.is_whitespace())
        .collect();
    digits
        .chunks(2)
        .map(|pair| {
            let (high, low) = (pair.first()?.to_digit(16)?, pair.get(1)?.to_digit(16)?);
            u8::try_from(high << 4 | low).ok()
        })
        .collect()
}

/// Reads words from the left.
pub struct Reader<'a> {
    words: &'a [Word],
    read: usize,
}

impl<'a> Reader<'a> {
    /// The next word.
    pub fn word(&mut self) -> Option<&'a Word> {
        let word = self.words.get(self.read)?;
        self.read += 1;
        Some(word)
    }

    /// All words that are left.
    fn rest(&mut self) -> &'a [Word] {
        let rest = self.words.get(self.read..).unwrap_or_default();
        self.read = self.words.len();
        rest
    }

    /// Takes the next word if it is this one.
    pub fn keyword(&mut self, keyword: &str) -> bool {
        let found = self
            .words
            .get(self.read)
            .is_some_and(|word| !word.quoted && word.bytes == keyword.as_bytes());
        self.read += usize::from(found);
        found
    }

    /// The next word, made into something by `read`.
    pub fn one<T>(
        &mut self,
        expected: &'static str,
        read: impl Fn(&str) -> Option<T>,
    ) -> Result<T, CommandError> {
        let word = self.word().ok_or(CommandError::Missing(expected))?.text();
        read(&word).ok_or_else(|| CommandError::Word {
            expected: expected.to_owned(),
            word,
        })
    }

    /// The next word as text.
    pub fn text(&mut self, expected: &'static str) -> Result<String, CommandError> {
        self.one(expected, |word| Some(word.to_owned()))
    }

    /// The next word, which has to stand in quotes.
    pub fn bytes(&mut self, expected: &'static str) -> Result<Vec<u8>, CommandError> {
        let word = self.word().ok_or(CommandError::Missing(expected))?;
        if word.quoted {
            return Ok(word.bytes.clone());
        }
        Err(CommandError::Word {
            word: word.text(),
            expected: expected.to_owned(),
        })
    }

    /// A time.
    pub fn duration(&mut self) -> Result<Duration, CommandError> {
        self.one("a time such as 100ms or 5s", lexer::duration)
    }

    /// `rpci` or `tclo`, if it stands here.
    pub fn protocol(&mut self) -> Option<Protocol> {
        if self.keyword("rpci") {
            Some(Protocol::Rpci)
        } else {
            self.keyword("tclo").then_some(Protocol::Tclo)
        }
    }

    /// The name of a signal, with or without SIG.
    pub fn signal(&mut self) -> Result<i32, CommandError> {
        self.one("a signal such as TERM", |word| {
            let name = if word.starts_with("SIG") {
                word.to_owned()
            } else {
                format!("SIG{word}")
            };
            name.parse::<Signal>().ok().map(|signal| signal as i32)
        })
    }

    /// The kind of a violation, or `any`.
    pub fn violation(&mut self) -> Result<String, CommandError> {
        let word = self.text("the kind of a violation")?;
        if word == "any" || Violation::KINDS.contains(&word.as_str()) {
            return Ok(word);
        }
        Err(CommandError::Word {
            word,
            expected: format!("one of any, {}", Violation::KINDS.join(", ")),
        })
    }

    /// `=`, `<=` or `>=` and a number.
    pub fn comparison(&mut self) -> Result<Comparison, CommandError> {
        let kind = self.one("=, <= or >=", |word| {
            ["=", "<=", ">="].into_iter().find(|known| *known == word)
        })?;
        let number = self.one("a number", |word| {
            word.parse().ok().filter(|number: &f64| number.is_finite())
        })?;
        Ok(match kind {
            "<=" => Comparison::AtMost(number),
            ">=" => Comparison::AtLeast(number),
            _ => Comparison::Equal(number),
        })
    }

    /// Nothing may follow.
    fn end(&mut self) -> Result<(), CommandError> {
        self.word()
            .map_or(Ok(()), |word| Err(CommandError::Extra(word.text())))
    }

    /// A request in quotes, `hex "..."`, or `vix`, the number of an operation, and the size of its body.
    fn request(&mut self) -> Result<Vec<u8>, CommandError> {
        if self.keyword("vix") {
            let opcode = self.one("the number of a VIX operation", |word| word.parse().ok())?;
            let body = if self.keyword("body") {
                self.one("a number of bytes below 4096", |word| {
                    word.parse().ok().filter(|bytes| *bytes < 4096)
                })?
            } else {
                0
            };
            return Ok(vix_request(opcode, body));
        }
        if self.keyword("hex") {
            return self.one("bytes in hexadecimal", hexadecimal);
        }
        self.bytes("a request in quotes")
    }

    fn set(&mut self) -> Result<Command, CommandError> {
        let switch = |word: &str| match word {
            "on" => Some(true),
            "off" => Some(false),
            _ => None,
        };
        let pause = |word: &str| match word {
            "off" => Some(None),
            word => lexer::duration(word).filter(|pause| !pause.is_zero()).map(Some),
        };
        let what = self.text("a setting")?;
        Ok(Command::Setting(match what.as_str() {
            "variable" => {
                let key = self.text("the name of a variable")?;
                return Ok(Command::Variable(key, Some(self.bytes("a value in quotes")?)));
            }
            "machine-id" => return Ok(Command::MachineId(self.text("a text")?)),
            "ping" => Setting::Ping(self.one("a time or off", pause)?),
            "broadcast" => Setting::Broadcast(self.one("a time or off", pause)?),
            "request-timeout" => Setting::RequestTimeout(self.duration()?),
            "nul" => Setting::TrailingNul(self.one("on or off", switch)?),
            "hb" => Setting::HighBandwidth(self.one("on or off", switch)?),
            "cookies" => Setting::Cookies(self.one("on or off", switch)?),
            "versiontype" => Setting::VersionType(self.one("on or off", switch)?),
            "profile" => Setting::Profile(self.one("esxi, esxi7, fusion or legacy", |word| {
                Profile::from_str(word, false).ok()
            })?),
            "version" if self.keyword("sigsegv") => Setting::Version(None),
            "version" => Setting::Version(Some((
                self.one("EAX of GETVERSION, or sigsegv", number)?,
                self.one("EBX of GETVERSION", number)?,
            ))),
            "foreign-channels" => {
                Setting::ForeignChannels(self.one("a number of channels", |word| word.parse().ok())?)
            }
            "slow" => Setting::Slow(self.one("a time of at most 1s, or off", |word| {
                match word {
                    "off" => Some(0),
                    word => lexer::duration(word)
                        .filter(|time| *time <= MAX_SLOW)
                        .and_then(|time| u32::try_from(time.as_millis()).ok()),
                }
            })?),
            "clock" => Setting::Clock(self.clock()?),
            "tclo-owner" => Setting::TcloOwner(self.one("any, first or newest", |word| match word {
                "any" => Some(TcloOwner::Any),
                "first" => Some(TcloOwner::First),
                "newest" => Some(TcloOwner::Newest),
                _ => None,
            })?),
            "time-command" => Setting::TimeCommand(self.one("55, 46 or 23", |word| word.parse().ok())?),
            _ => {
                return Err(CommandError::Word {
                    word: what,
                    expected: "a setting".to_owned(),
                });
            }
        }))
    }

    /// `ahead 5s`, `behind 5s`, `absent` or `reads SECONDS MICROSECONDS`.
    fn clock(&mut self) -> Result<HostClock, CommandError> {
        let word = self.text("ahead, behind, absent or reads")?;
        Ok(match word.as_str() {
            "ahead" => HostClock::Ahead(self.duration()?),
            "behind" => HostClock::Behind(self.duration()?),
            "absent" => HostClock::Absent,
            "reads" => HostClock::Reads {
                seconds: self.one("seconds since 1970", |word| word.parse().ok())?,
                microseconds: self.one("microseconds", number)?,
            },
            _ => {
                let expected = "ahead, behind, absent or reads".to_owned();
                return Err(CommandError::Word { word, expected });
            }
        })
    }

    fn override_(&mut self) -> Result<Command, CommandError> {
        let prefix = self.bytes("the beginning of a command in quotes")?;
        let what = self.text("refuse, reply, silence, delay or normal")?;
        let what = match what.as_str() {
            "refuse" => {
                let text = self
                    .word()
                    .map_or_else(|| "Unknown command".to_owned(), Word::text);
                Some(Override::Refuse(text))
            }
            "reply" => Some(Override::Reply(self.bytes("a reply in quotes")?)),
            "silence" => Some(Override::Silence),
            "delay" => Some(Override::Delay(self.duration()?)),
            "normal" => None,
            _ => {
                let expected = "refuse, reply, silence, delay or normal".to_owned();
                return Err(CommandError::Word { word: what, expected });
            }
        };
        Ok(Command::Override(prefix, what))
    }
}
