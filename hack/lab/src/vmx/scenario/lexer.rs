//! Words of a line.

use std::time::Duration;

/// A word, quoted or not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Word {
    /// Its bytes, escapes resolved.
    pub bytes: Vec<u8>,
    /// It stood in quotes.
    pub quoted: bool,
}

impl Word {
    /// The word as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }
}

/// Why a line cannot be split into words.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum LexError {
    /// A quote without its partner.
    #[error("a text in quotes does not end")]
    OpenQuote,
    /// A backslash before something that is no escape.
    #[error("unknown escape \\{0}")]
    Escape(String),
    /// Something directly after a closing quote.
    #[error("a space is missing after a text in quotes")]
    Glued,
}

/// Splits a line; `#` outside quotes begins a comment.
pub fn words(line: &str) -> Result<Vec<Word>, LexError> {
    let mut words = Vec::new();
    let mut characters = line.chars().peekable();
    while let Some(character) = characters.next() {
        match character {
            '#' => break,
            c if c.is_whitespace() => {}
            '"' => {
                words.push(Word {
                    bytes: quoted(&mut characters)?,
                    quoted: true,
                });
                if characters.peek().is_some_and(|next| !next.is_whitespace()) {
                    return Err(LexError::Glued);
                }
            }
            first => {
                let mut word = String::from(first);
                while let Some(next) = characters.next_if(|next| !next.is_whitespace() && *next != '#') {
                    word.push(next);
                }
                words.push(Word {
                    bytes: word.into_bytes(),
                    quoted: false,
                });
            }
        }
    }
    Ok(words)
}

fn quoted(characters: &mut impl Iterator<Item = char>) -> Result<Vec<u8>, LexError> {
    let mut bytes = Vec::new();
    loop {
        match characters.next().ok_or(LexError::OpenQuote)? {
            '"' => return Ok(bytes),
            '\\' => bytes.push(match characters.next().ok_or(LexError::OpenQuote)? {
                '0' => 0,
                'n' => b'\n',
                'r' => b'\r',
                't' => b'\t',
                '\\' => b'\\',
                '"' => b'"',
                'x' => {
                    let digits: String = characters.by_ref().take(2).collect();
                    let valid = digits.len() == 2 && digits.bytes().all(|digit| digit.is_ascii_hexdigit());
                    u8::from_str_radix(&digits, 16)
                        .ok()
                        .filter(|_| valid)
                        .ok_or_else(|| LexError::Escape(format!("x{digits}")))?
                }
                other => return Err(LexError::Escape(other.to_string())),
            }),
            other => bytes.extend_from_slice(other.encode_utf8(&mut [0; 4]).as_bytes()),
        }
    }
}

/// `100ms`, `5s`, `1.5s`, `2m`; at most a day.
pub fn duration(word: &str) -> Option<Duration> {
    let at = word.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = word.split_at(at);
    let scale = match unit {
        "ms" => 0.001,
        "s" => 1.0,
        "m" => 60.0,
        _ => return None,
    };
    let number: f64 = number.parse().ok()?;
    Duration::try_from_secs_f64(number * scale)
        .ok()
        .filter(|time| *time <= Duration::from_secs(86400))
}
