//! The file as a list of dotted keys, each with its line.
//!
//! Only what a settings file needs is accepted: mappings, scalars, and lists of scalars. Anchors and aliases are
//! refused, so a small file cannot unfold into a large one.

#![forbid(unsafe_code)]

use saphyr_parser::{Event, Parser, ScanError, Span};

/// Deepest nesting that is followed.
const MAX_DEPTH: usize = 8;

/// One value of the file.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Entry {
    /// Dotted path, e.g. `host.poll_max_ms`.
    pub(super) key: String,
    /// The scalar; of a list, its elements joined by commas, as a variable would hold them.
    pub(super) value: String,
    /// Line of the value, from 1.
    pub(super) line: usize,
}

/// One place of the file that is no setting.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) line: usize,
    pub(super) problem: String,
}

/// Reads as far as the text is YAML: what stands before a syntax error counts.
pub(super) fn flatten(text: &str) -> (Vec<Entry>, Vec<Fault>) {
    let mut flattened = Flattened::default();
    let mut parser = Parser::new_from_str(text);
    while let Some(next) = parser.next_event() {
        let proceed = match next {
            Ok((event, span)) => flattened.event(&event, span),
            Err(err) => flattened.broken(&err),
        };
        if !proceed {
            break;
        }
    }
    (flattened.entries, flattened.faults)
}

enum Level {
    /// In a mapping; the key whose value comes next, if it was read.
    Mapping {
        key: Option<String>,
    },
    List {
        values: Vec<String>,
        line: usize,
    },
}

#[derive(Default)]
struct Flattened {
    levels: Vec<Level>,
    entries: Vec<Entry>,
    faults: Vec<Fault>,
}

impl Flattened {
    /// Takes one event in; false ends the reading.
    fn event(&mut self, event: &Event<'_>, span: Span) -> bool {
        let line = span.start.line();
        match event {
            Event::Scalar(value, ..) => self.scalar(value, line),
            Event::MappingStart(..) => {
                if matches!(
                    self.levels.last(),
                    Some(Level::List { .. } | Level::Mapping { key: None })
                ) {
                    return self.fault(
                        line,
                        "a mapping is not expected here; the rest of the file is ignored",
                    );
                }
                self.open(Level::Mapping { key: None }, line)
            }
            Event::SequenceStart(..) => match self.levels.last() {
                Some(Level::Mapping { key: Some(_) }) => self.open(
                    Level::List {
                        values: Vec::new(),
                        line,
                    },
                    line,
                ),
                _ => self.fault(
                    line,
                    "a list is not expected here; the rest of the file is ignored",
                ),
            },
            Event::MappingEnd => {
                self.levels.pop();
                self.value_taken();
                true
            }
            Event::SequenceEnd => {
                if let Some(Level::List { values, line }) = self.levels.pop() {
                    self.push(values.join(","), line);
                }
                true
            }
            Event::Alias(_) => self.fault(line, "anchors and aliases are not supported; the rest is ignored"),
            Event::Nothing
            | Event::StreamStart
            | Event::StreamEnd
            | Event::DocumentStart(_)
            | Event::DocumentEnd => true,
        }
    }

    fn open(&mut self, level: Level, line: usize) -> bool {
        if self.levels.len() >= MAX_DEPTH {
            return self.fault(line, "nested too deep; the rest of the file is ignored");
        }
        self.levels.push(level);
        true
    }

    fn scalar(&mut self, value: &str, line: usize) -> bool {
        match self.levels.last_mut() {
            Some(Level::List { values, .. }) => values.push(value.to_owned()),
            Some(Level::Mapping { key: key @ None }) => *key = Some(value.to_owned()),
            // `host:` with nothing below it sets nothing.
            Some(Level::Mapping { key: Some(_) }) if matches!(value, "" | "~" | "null") => self.value_taken(),
            Some(Level::Mapping { key: Some(_) }) => self.push(value.to_owned(), line),
            None if value.is_empty() => {}
            None => return self.fault(line, "the file must be a mapping"),
        }
        true
    }

    fn push(&mut self, value: String, line: usize) {
        let path: Vec<&str> = self
            .levels
            .iter()
            .filter_map(|level| match level {
                Level::Mapping { key } => key.as_deref(),
                Level::List { .. } => None,
            })
            .collect();
        self.entries.push(Entry {
            key: path.join("."),
            value,
            line,
        });
        self.value_taken();
    }

    fn value_taken(&mut self) {
        if let Some(Level::Mapping { key }) = self.levels.last_mut() {
            *key = None;
        }
    }

    fn broken(&mut self, err: &ScanError) -> bool {
        self.fault(
            err.marker().line(),
            &format!("is not YAML ({}); the rest of the file is ignored", err.info()),
        )
    }

    fn fault(&mut self, line: usize, problem: &str) -> bool {
        self.faults.push(Fault {
            line,
            problem: problem.into(),
        });
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<(String, String, usize)> {
        let (entries, faults) = flatten(text);
        assert_eq!(faults, vec![], "{text}");
        entries
            .into_iter()
            .map(|entry| (entry.key, entry.value, entry.line))
            .collect()
    }

    #[test]
    fn paths_are_dotted_and_lists_joined() {
        let text = "log: { level: debug }\nreport:\n  hide:\n    - 10.0.0.0/8\n    - eth1\nha: off\n";
        assert_eq!(
            entries(text),
            [
                ("log.level".into(), "debug".into(), 1),
                ("report.hide".into(), "10.0.0.0/8,eth1".into(), 4),
                ("ha".into(), "off".into(), 6),
            ]
        );
    }

    #[test]
    fn an_empty_file_is_no_mistake() {
        assert_eq!(entries(""), []);
        assert_eq!(entries("# nothing\n"), []);
        assert_eq!(
            entries("host:\n  # poll_max_ms: 100\nha: off\n"),
            [("ha".into(), "off".into(), 3)]
        );
    }

    #[test]
    fn what_cannot_be_a_setting_is_told_with_its_line() {
        for (text, line) in [
            ("- a\n- b\n", 1),
            ("a: 1\nb:\n  - c: 1\n", 3),
            ("a: &x 1\nb: *x\n", 2),
            (
                "a:\n b:\n  c:\n   d:\n    e:\n     f:\n      g:\n       h:\n        i: 1\n",
                9,
            ),
            ("nonsense", 1),
        ] {
            let (_, faults) = flatten(text);
            assert_eq!(faults.len(), 1, "{text}: {faults:?}");
            assert_eq!(faults[0].line, line, "{text}: {faults:?}");
        }
    }
}
