//! Faults: what the host does wrong, on purpose, at a step of the message layer.
//!
//! A fault is armed for a step, optionally of one protocol, says at which occurrences of the step it strikes, and has
//! one effect. A scenario or the control socket arms it; the grammar is in `scenario/language.txt`.

use std::time::Duration;

use super::{
    backdoor::{Protocol, Step, status},
    scenario::lexer,
};

/// Longest stall of one access: longer than any patience of a guest that must keep a heartbeat of 30 s.
const MAX_STALL: Duration = Duration::from_secs(30);

/// What a fault does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Status flags of the answer.
    Status(u16),
    /// EDX bits 31:16 of the answer.
    Kind(u16),
    /// Size that RECVSIZE tells.
    Size(u32),
    /// Bytes that a high-bandwidth read gets.
    Short(usize),
    /// No HB flag.
    NoHigh,
    /// No reply to an RPCI request.
    NoReply,
    /// Channel number of OPEN.
    Id(u16),
    /// Cookies of OPEN.
    Cookies(u32, u32),
    /// Garbage in undefined registers.
    Scramble,
    /// The channel is gone.
    Lose,
    /// All channels are gone.
    LoseAll,
    /// The access faults.
    Segv,
    /// Payload bytes are not those that the host meant.
    Corrupt,
    /// The access takes this long, as on a stunned VM. In milliseconds.
    Stall(u32),
}

/// At which occurrences of its step a fault strikes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum When {
    /// The next N.
    Next(u32),
    /// Only the Nth from now.
    Nth(u32),
    /// All.
    Every,
}

/// An armed fault.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Fault {
    /// The steps it waits for.
    pub steps: Vec<Step>,
    /// The protocol it waits for; both if absent.
    pub protocol: Option<Protocol>,
    /// At which of them it strikes.
    pub when: When,
    /// What it does.
    pub effect: Effect,
}

/// The armed faults.
#[derive(Debug, Default)]
pub struct Faults {
    armed: Vec<Fault>,
}

impl Faults {
    /// Arms a fault.
    pub fn arm(&mut self, fault: Fault) {
        self.armed.push(fault);
    }

    /// Disarms all.
    pub fn clear(&mut self) {
        self.armed.clear();
    }

    /// How many are armed.
    pub fn len(&self) -> usize {
        self.armed.len()
    }

    /// Whether none is armed.
    pub fn is_empty(&self) -> bool {
        self.armed.is_empty()
    }

    /// The effects on a step that happens now. Faults that are used up go.
    pub fn strike(&mut self, step: Step, protocol: Option<Protocol>) -> Vec<Effect> {
        let mut effects = Vec::new();
        self.armed.retain_mut(|fault| {
            if !fault.steps.contains(&step) || (fault.protocol.is_some() && fault.protocol != protocol) {
                return true;
            }
            match &mut fault.when {
                When::Every => effects.push(fault.effect),
                When::Next(left) => {
                    effects.push(fault.effect);
                    *left = left.saturating_sub(1);
                    return *left > 0;
                }
                When::Nth(left) if *left <= 1 => {
                    effects.push(fault.effect);
                    return false;
                }
                When::Nth(left) => *left -= 1,
            }
            true
        });
        effects
    }
}

/// Why the words of a fault do not make one.
#[derive(Debug, thiserror::Error)]
pub enum FaultError {
    /// The words end too early.
    #[error("{0} expected after \"{1}\"")]
    Missing(&'static str, String),
    /// A word that is not what is expected at its place.
    #[error("{word:?} is not {expected}")]
    Word {
        /// The word.
        word: String,
        /// What stands there.
        expected: &'static str,
    },
}

impl Fault {
    /// Reads the words after `fault`.
    pub fn parse(words: &[String]) -> Result<Self, FaultError> {
        let mut words = Words { words, read: 0 };
        let steps = words.one("a step", |word| match word {
            "any" => Some(Step::ALL.to_vec()),
            "payload" => Some(vec![
                Step::SendPayload,
                Step::HighOut,
                Step::RecvPayload,
                Step::HighIn,
            ]),
            _ => Step::ALL
                .into_iter()
                .find(|step| step.name() == word)
                .map(|step| vec![step]),
        })?;
        let protocol = words.maybe(|word| match word {
            "rpci" => Some(Protocol::Rpci),
            "tclo" => Some(Protocol::Tclo),
            _ => None,
        });
        let when = match words.maybe(|word| ["next", "nth", "every"].into_iter().find(|when| *when == word)) {
            None => When::Next(1),
            Some("every") => When::Every,
            Some("next") => When::Next(words.one("a count", count)?),
            Some(_) => When::Nth(words.one("a count", count)?),
        };
        let effect = match words.one("an effect", |word| {
            EFFECTS.into_iter().find(|effect| *effect == word)
        })? {
            "status" => Effect::Status(words.one("status flags", flags)?),
            "type" => Effect::Kind(words.one("a number below 65536", number)?),
            "size" => Effect::Size(words.one("a 32-bit number", number)?),
            "short" => Effect::Short(words.one("a number of bytes", number)?),
            "no-hb" => Effect::NoHigh,
            "no-reply" => Effect::NoReply,
            "id" => Effect::Id(words.one("a number below 65536", number)?),
            "cookies" => Effect::Cookies(
                words.one("a 32-bit number", number)?,
                words.one("a 32-bit number", number)?,
            ),
            "scramble" => Effect::Scramble,
            "lose" => Effect::Lose,
            "lose-all" => Effect::LoseAll,
            "corrupt" => Effect::Corrupt,
            "stall" => Effect::Stall(words.one("a time of at most 30s", stall)?),
            _ => Effect::Segv,
        };
        match words.next() {
            Some(word) => Err(FaultError::Word {
                word: word.clone(),
                expected: "expected here",
            }),
            None => Ok(Self {
                steps,
                protocol,
                when,
                effect,
            }),
        }
    }
}

const EFFECTS: [&str; 14] = [
    "status", "type", "size", "short", "no-hb", "no-reply", "id", "cookies", "scramble", "lose", "lose-all",
    "sigsegv", "corrupt", "stall",
];

struct Words<'a> {
    words: &'a [String],
    read: usize,
}

impl<'a> Words<'a> {
    fn next(&mut self) -> Option<&'a String> {
        let word = self.words.get(self.read);
        self.read += 1;
        word
    }

    fn one<T>(&mut self, expected: &'static str, read: impl Fn(&str) -> Option<T>) -> Result<T, FaultError> {
        let word = self
            .next()
            .ok_or_else(|| FaultError::Missing(expected, self.words.join(" ")))?;
        read(word).ok_or_else(|| FaultError::Word {
            word: word.clone(),
            expected,
        })
    }

    fn maybe<T>(&mut self, read: impl Fn(&str) -> Option<T>) -> Option<T> {
        let found = self.words.get(self.read).and_then(|word| read(word))?;
        self.read += 1;
        Some(found)
    }
}

/// A count of at least one.
fn count(word: &str) -> Option<u32> {
    number(word).filter(|count| *count > 0)
}

/// Decimal, or hexadecimal after `0x`.
pub(super) fn number<T: TryFrom<u64>>(word: &str) -> Option<T> {
    let value = match word.strip_prefix("0x") {
        Some(digits) => u64::from_str_radix(digits, 16).ok()?,
        None => word.parse().ok()?,
    };
    T::try_from(value).ok()
}

/// A time in milliseconds, bounded: the whole guest waits.
fn stall(word: &str) -> Option<u32> {
    let time = lexer::duration(word).filter(|time| *time <= MAX_STALL)?;
    u32::try_from(time.as_millis()).ok()
}

/// A number, or names of flags joined by `|`.
fn flags(word: &str) -> Option<u16> {
    number(word).or_else(|| {
        word.split('|').try_fold(0, |flags, name| {
            let (_, flag) = status::NAMES.into_iter().find(|(known, _)| *known == name)?;
            Some(flags | flag)
        })
    })
}
