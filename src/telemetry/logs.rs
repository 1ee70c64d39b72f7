//! The log: what is written, where, and in which form.

use std::fmt::{self, Write as _};

use tracing_subscriber::{
    field::MakeExt as _,
    fmt::{MakeWriter, format},
    util::SubscriberInitExt as _,
};

use crate::{
    config::{self, LogFormat},
    unicode::is_hidden,
};

/// Why logging cannot be initialised.
#[derive(Debug, thiserror::Error)]
pub enum LogError {
    #[error("log.level: {0}")]
    Level(String),
    #[error("logging is already initialised")]
    AlreadyInitialised,
}

/// Sends this process's log to standard error. Call it once per process.
///
/// # Errors
/// [`LogError`] when the level is not a valid filter, or logging is already initialised.
pub fn init_logs(config: &config::Log) -> Result<(), LogError> {
    let colours = std::io::IsTerminal::is_terminal(&std::io::stderr());
    let dispatch = log_to(config, std::io::stderr, colours)?;
    dispatch.try_init().map_err(|_| LogError::AlreadyInitialised)
}

/// The subscriber that [`init_logs`] installs, for any writer: one event per line, whatever the
/// values contain.
///
/// # Errors
/// [`LogError::Level`] when the level is not a valid filter.
pub fn log_to<W>(
    config: &config::Log,
    writer: W,
    colours: bool,
) -> Result<tracing::Dispatch, LogError>
where
    W: for<'a> MakeWriter<'a> + Send + Sync + 'static,
{
    let filter = config.filter().map_err(LogError::Level)?;
    let builder = tracing_subscriber::fmt().with_env_filter(filter).with_writer(writer);
    Ok(match config.format {
        LogFormat::Json => {
            builder.json().flatten_event(true).with_current_span(true).with_span_list(false).into()
        }
        LogFormat::Human => builder
            .with_ansi(colours)
            .fmt_fields(format::debug_fn(write_field).delimited(" "))
            .into(),
    })
}

fn write_field(
    writer: &mut format::Writer<'_>,
    field: &tracing::field::Field,
    value: &dyn fmt::Debug,
) -> fmt::Result {
    let mut escaped = Escaped(writer);
    match field.name() {
        "message" => write!(escaped, "{value:?}"),
        name => write!(escaped, "{name}={value:?}"),
    }
}

/// Escapes hidden characters, so that a value can neither start a line of its own nor control the
/// terminal (CWE-117), nor make a line read as something else.
struct Escaped<'a, 'w>(&'a mut format::Writer<'w>);

impl fmt::Write for Escaped<'_, '_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        for c in text.chars() {
            match c {
                '\n' | '\r' | '\t' => write!(self.0, "{}", c.escape_default())?,
                c if is_hidden(c) => write!(self.0, "{}", c.escape_unicode())?,
                c => self.0.write_char(c)?,
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        io,
        sync::{Arc, Mutex},
    };

    use super::*;

    #[derive(Clone, Default)]
    struct Buffer(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Buffer {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(bytes);
            Ok(bytes.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// The log of an event with a hostile username.
    fn log_of(format: LogFormat, level: &str) -> String {
        let buffer = Buffer::default();
        let writer = buffer.clone();
        let level = level.to_owned();
        let log = log_to(&config::Log { format, level }, move || writer.clone(), false).unwrap();
        tracing::dispatcher::with_default(&log, || {
            let hostile = "eve\r\nINFO admin\u{1b}[2J\u{9b}1m\u{202e}\u{7f}";
            let span = tracing::info_span!("request", path = %hostile);
            let _inside = span.enter();
            tracing::info!(username = %hostile, agent = ?hostile, raw = hostile, "login of {hostile}");
            tracing::debug!("a detail");
        });
        let bytes = buffer.0.lock().unwrap().clone();
        String::from_utf8(bytes).unwrap()
    }

    #[test]
    fn values_cannot_forge_lines_or_control_the_terminal() {
        for format in [LogFormat::Human, LogFormat::Json] {
            let log = log_of(format, "info");
            assert_eq!(log.lines().count(), 1, "{log}");
            assert!(log.ends_with('\n'));
            let line = log.trim_end_matches('\n');
            let is_c0 = |c: char| c < ' ';
            assert!(!line.contains(is_c0), "{line:?}");
            if format == LogFormat::Human {
                assert!(!line.contains(char::is_control), "{line:?}");
                assert!(!line.contains('\u{202e}'), "{line:?}");
                assert!(line.contains("login of eve\\r\\nINFO admin\\u{1b}[2J"), "{line}");
                assert!(line.contains(" username=eve\\r\\n"), "{line}");
            }
        }
    }

    #[test]
    fn json_logs_are_one_flat_object_per_line() {
        let log = log_of(LogFormat::Json, "info");
        let line: serde_json::Value = serde_json::from_str(&log).unwrap();
        assert_eq!(line["level"], "INFO");
        assert!(line["username"].as_str().unwrap().starts_with("eve\r\n"));
        assert_eq!(line["span"]["name"], "request");
    }

    #[test]
    fn the_level_filters_and_an_invalid_one_names_its_key() {
        assert!(!log_of(LogFormat::Human, "info").contains("a detail"));
        assert!(log_of(LogFormat::Human, "warn,propusk=debug").contains("a detail"));
        let level = "propusk=loud".to_owned();
        let format = LogFormat::Human;
        let error = log_to(&config::Log { format, level }, io::sink, false).unwrap_err();
        assert!(error.to_string().starts_with("log.level: `loud` is not a level"), "{error}");
    }
}
