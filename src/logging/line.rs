//! An event as one line.

#![forbid(unsafe_code)]

use std::{error::Error, fmt};

use serde::ser::{SerializeMap, Serializer};
use tracing::{
    Event, Subscriber,
    field::{Field, Visit},
    span,
};
use tracing_subscriber::{
    Layer,
    fmt::{
        format,
        time::{FormatTime, SystemTime},
    },
    layer::Context,
    registry::LookupSpan,
};

/// Longest value of one field, in bytes. machined's forwarding stops for good at a line of 64 KiB.
const MAX_VALUE: usize = 2048;

/// How a line looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Style {
    Json,
    Text,
}

/// Turns events into lines, with the fields of the spans around them.
pub(super) struct Lines<W> {
    style: Style,
    write: W,
}

impl<W: Fn(String) + Send + Sync + 'static> Lines<W> {
    pub(super) fn new(style: Style, write: W) -> Self {
        Self { style, write }
    }
}

impl<W, S> Layer<S> for Lines<W>
where
    W: Fn(String) + Send + Sync + 'static,
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    fn on_new_span(&self, attributes: &span::Attributes<'_>, id: &span::Id, context: Context<'_, S>) {
        let mut fields = Fields::default();
        attributes.record(&mut fields);
        if let Some(span) = context.span(id) {
            span.extensions_mut().insert(fields);
        }
    }

    fn on_record(&self, id: &span::Id, values: &span::Record<'_>, context: Context<'_, S>) {
        if let Some(span) = context.span(id)
            && let Some(fields) = span.extensions_mut().get_mut::<Fields>()
        {
            values.record(fields);
        }
    }

    fn on_event(&self, event: &Event<'_>, context: Context<'_, S>) {
        let mut fields = Fields::default();
        for span in context
            .event_scope(event)
            .into_iter()
            .flat_map(|scope| scope.from_root())
        {
            if let Some(outer) = span.extensions().get::<Fields>() {
                for (name, value) in &outer.0 {
                    fields.put(name, value.clone());
                }
            }
        }
        event.record(&mut fields);
        let level = event.metadata().level().as_str();
        let line = match self.style {
            Style::Json => fields.json(&now(), level),
            Style::Text => Ok(fields.text(&now(), level)),
        };
        if let Ok(mut line) = line {
            line.push('\n');
            (self.write)(line);
        }
    }
}

/// RFC 3339 in UTC; empty if the clock cannot be told.
fn now() -> String {
    let mut time = String::new();
    match SystemTime.format_time(&mut format::Writer::new(&mut time)) {
        Ok(()) => time,
        Err(fmt::Error) => String::new(),
    }
}

#[derive(Clone, Debug, PartialEq)]
enum Value {
    Bool(bool),
    I64(i64),
    U64(u64),
    F64(f64),
    Text(String),
}

impl serde::Serialize for Value {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Bool(value) => serializer.serialize_bool(*value),
            Self::I64(value) => serializer.serialize_i64(*value),
            Self::U64(value) => serializer.serialize_u64(*value),
            Self::F64(value) => serializer.serialize_f64(*value),
            Self::Text(value) => serializer.serialize_str(value),
        }
    }
}

/// Named values in the order in which they were first recorded; the innermost value of a name counts.
#[derive(Default)]
struct Fields(Vec<(&'static str, Value)>);

impl Fields {
    fn put(&mut self, name: &'static str, value: Value) {
        match self.0.iter_mut().find(|(present, _)| *present == name) {
            Some((_, slot)) => *slot = value,
            None => self.0.push((name, value)),
        }
    }

    fn put_text(&mut self, field: &Field, mut text: String) {
        if text.len() > MAX_VALUE {
            let end = (0..=MAX_VALUE)
                .rev()
                .find(|&at| text.is_char_boundary(at))
                .unwrap_or(0);
            text.truncate(end);
            text.push('…');
        }
        self.put(field.name(), Value::Text(text));
    }

    fn message(&self) -> &str {
        match self.0.iter().find(|(name, _)| *name == "message") {
            Some((_, Value::Text(text))) => text,
            _ => "",
        }
    }

    fn others(&self) -> impl Iterator<Item = &(&'static str, Value)> {
        self.0.iter().filter(|(name, _)| *name != "message")
    }

    fn json(&self, time: &str, level: &str) -> serde_json::Result<String> {
        let mut line = Vec::with_capacity(256);
        let mut serializer = serde_json::Serializer::new(&mut line);
        let mut map = serializer.serialize_map(None)?;
        map.serialize_entry("time", time)?;
        map.serialize_entry("level", &level.to_ascii_lowercase())?;
        map.serialize_entry("msg", self.message())?;
        for (name, value) in self.others() {
            map.serialize_entry(name, value)?;
        }
        map.end()?;
        String::from_utf8(line).map_err(serde::ser::Error::custom)
    }

    fn text(&self, time: &str, level: &str) -> String {
        use fmt::Write;
        let mut line = format!("{time} {level:>5} {}", self.message());
        for (name, value) in self.others() {
            // Writing to a String cannot fail.
            let _ = match value {
                Value::Bool(value) => write!(line, " {name}={value}"),
                Value::I64(value) => write!(line, " {name}={value}"),
                Value::U64(value) => write!(line, " {name}={value}"),
                Value::F64(value) => write!(line, " {name}={value}"),
                Value::Text(value) => write!(line, " {name}={value:?}"),
            };
        }
        line
    }
}

impl Visit for Fields {
    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), Value::Bool(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), Value::I64(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), Value::U64(value));
    }

    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), Value::F64(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put_text(field, value.to_owned());
    }

    fn record_error(&mut self, field: &Field, value: &(dyn Error + 'static)) {
        let mut text = value.to_string();
        let mut source = value.source();
        while let Some(cause) = source {
            let cause_text = cause.to_string();
            // Many errors repeat their source in their own text.
            if !text.contains(&cause_text) {
                text.push_str(": ");
                text.push_str(&cause_text);
            }
            source = cause.source();
        }
        self.put_text(field, text);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put_text(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use tracing_subscriber::layer::SubscriberExt;

    use super::*;

    fn lines_of(style: Style, speak: impl FnOnce()) -> Vec<String> {
        let lines = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&lines);
        let layer = Lines::new(style, move |line| sink.lock().unwrap().push(line));
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), speak);
        let lines = lines.lock().unwrap();
        lines.clone()
    }

    #[test]
    fn json_is_flat_with_the_keys_that_machined_lifts() {
        let lines = lines_of(Style::Json, || {
            let _span = tracing::info_span!("task", feature = "guestinfo", n = 1).entered();
            let err = std::io::Error::other("no\nroute");
            tracing::warn!(n = 2, up = true, err = &err as &dyn Error, "published \"it\"");
        });
        assert_eq!(lines.len(), 1);
        let line: serde_json::Value = serde_json::from_str(lines[0].strip_suffix('\n').unwrap()).unwrap();
        assert_eq!(line["level"], "warn");
        assert_eq!(line["msg"], "published \"it\"");
        assert_eq!(line["err"], "no\nroute");
        assert_eq!(line["feature"], "guestinfo");
        assert_eq!(line["n"], 2);
        assert_eq!(line["up"], true);
        let time = line["time"].as_str().unwrap();
        assert!(time.ends_with('Z') && time.as_bytes()[10] == b'T', "{time}");
        assert!(lines[0].starts_with("{\"time\":"), "{}", lines[0]);
    }

    #[test]
    fn text_is_one_line_whatever_a_value_holds() {
        let lines = lines_of(Style::Text, || {
            tracing::info!(name = "a\nb", len = 3_u64, "heard")
        });
        assert_eq!(lines[0].matches('\n').count(), 1);
        assert!(
            lines[0].contains(" INFO heard name=\"a\\nb\" len=3"),
            "{}",
            lines[0]
        );
    }

    #[test]
    fn a_long_value_is_cut_between_characters() {
        let long = "ä".repeat(40_000);
        let lines = lines_of(Style::Json, || tracing::info!(%long, "x"));
        assert!(lines[0].len() < 3000, "{}", lines[0].len());
        let line: serde_json::Value = serde_json::from_str(&lines[0]).unwrap();
        assert!(line["long"].as_str().unwrap().ends_with("ä…"));
    }
}
