//! A command line, word by word.

use std::{str::FromStr, time::Duration};

use super::{Command, ParseError};

/// Longest time that a command may name; more is a slip of the pen.
const LONGEST: f64 = 3600.0;

/// The words of a line.
pub struct Words<'a> {
    pub rest: &'a str,
}

impl<'a> Words<'a> {
    pub fn peek(&self) -> Option<&'a str> {
        self.rest.split_whitespace().next()
    }

    pub fn next(&mut self) -> Option<&'a str> {
        let rest = self.rest.trim_start();
        let end = rest.find(char::is_whitespace).unwrap_or(rest.len());
        let (word, tail) = rest.split_at(end);
        self.rest = tail;
        (!word.is_empty()).then_some(word)
    }

    pub fn need(&mut self, what: &'static str) -> Result<&'a str, ParseError> {
        self.next().ok_or(ParseError::Missing(what))
    }

    pub fn value<T: FromStr>(&mut self, what: &'static str) -> Result<T, ParseError> {
        let word = self.need(what)?;
        word.parse().map_err(|_| wrong(word, what))
    }

    /// The rest of the line as text.
    pub fn text(&mut self) -> String {
        std::mem::take(&mut self.rest).trim().to_owned()
    }

    pub fn end(&mut self, command: Command) -> Result<Command, ParseError> {
        match self.next() {
            None => Ok(command),
            Some(word) => Err(wrong(word, "word of this command")),
        }
    }

    pub fn time(&mut self) -> Result<Duration, ParseError> {
        let word = self.need("a time")?;
        time(word).ok_or_else(|| wrong(word, "time such as 2s or 500ms"))
    }
}

/// The mistake of a word that is no `expected`.
pub fn wrong(word: &str, expected: &'static str) -> ParseError {
    ParseError::Word {
        word: word.to_owned(),
        expected,
    }
}

/// `2s`, `0.5s`, `500ms`, or a number of seconds.
pub fn time(word: &str) -> Option<Duration> {
    let (number, unit) = match (word.strip_suffix("ms"), word.strip_suffix('s')) {
        (Some(number), _) => (number, 1e-3),
        (None, Some(number)) => (number, 1.0),
        (None, None) => (word, 1.0),
    };
    let seconds = number.parse::<f64>().ok()? * unit;
    (0.0..=LONGEST)
        .contains(&seconds)
        .then(|| Duration::from_secs_f64(seconds))
}
