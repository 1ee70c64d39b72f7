//! Server-sent events (WHATWG HTML §9.2).

/// A line of the feed is much shorter: the server splits nothing, but a whole list comes by itself.
const MAX_EVENT: usize = 64 * 1024 * 1024;

/// An event.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Event {
    pub(super) name: String,
    pub(super) data: String,
}

/// Takes a stream apart, whatever pieces it comes in. Comments are dropped.
#[derive(Default)]
pub(super) struct Events {
    rest: Vec<u8>,
    name: String,
    data: Option<String>,
}

impl Events {
    /// The events that a piece completes; `None` if one is too long.
    pub(super) fn push(&mut self, piece: &[u8]) -> Option<Vec<Event>> {
        self.rest.extend_from_slice(piece);
        let held = self.rest.len() + self.data.as_ref().map_or(0, String::len);
        if held > MAX_EVENT {
            return None;
        }
        let mut events = vec![];
        let rest = std::mem::take(&mut self.rest);
        let mut lines = rest.split(|byte| *byte == b'\n').peekable();
        while let Some(line) = lines.next() {
            if lines.peek().is_none() {
                self.rest = line.to_vec();
                break;
            }
            let line = String::from_utf8_lossy(line);
            events.extend(self.line(line.strip_suffix('\r').unwrap_or(&line)));
        }
        Some(events)
    }

    fn line(&mut self, line: &str) -> Option<Event> {
        if line.is_empty() {
            let name = std::mem::take(&mut self.name);
            return self.data.take().map(|data| Event { name, data });
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.name),
            "data" => match &mut self.data {
                Some(data) => {
                    data.push('\n');
                    data.push_str(value);
                }
                None => self.data = Some(value.to_owned()),
            },
            _ => {}
        }
        None
    }
}
