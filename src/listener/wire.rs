//! A connection's bytes on their way to and from hyper: what hyper does not do itself.
//!
//! - Two `Content-Length`s, or one beside `Transfer-Encoding`, are the raw material of request
//!   smuggling (RFC 9112 §11.2). hyper resolves some of them silently and shows handlers the result, so
//!   [`Framing`] reads along and spoils such a head: hyper then answers 400 and closes.
//! - hyper's limit for the head also cuts idle connections; here the two are apart.
//! - An answer sent before the request was read (400, 408, 413, 431) must not be lost to the reset that
//!   closing a socket with unread bytes causes: the close lingers (RFC 9112 §9.6).

use std::{
    io,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    task::{Context, Poll, ready},
    time::Duration,
};

use tokio::{
    io::{AsyncRead, AsyncWrite, ReadBuf},
    time::{Instant, Sleep, sleep},
};

/// How long a closed connection reads on, for the client to take the answer.
const LINGER: Duration = Duration::from_secs(1);
/// Follows a head refused by [`Framing`]: no header may hold NUL, and the head ends here.
const SPOILER: &[u8] = b"\0\r\n\r\n";
/// Bytes of a line that [`Framing`] looks at; framing headers that exceed it are refused.
const LINE: usize = 256;
/// Stands for durations beyond the clock.
const FOREVER: Duration = Duration::from_secs(86_400);

/// When a connection last got on with something.
pub(super) struct Pulse {
    opened: Instant,
    /// Milliseconds after `opened`.
    last: AtomicU64,
    /// Requests whose answers are not yet sent.
    requests: AtomicUsize,
    idle: Duration,
    stalled: Duration,
}

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> Instant {
    Instant::now()
}

impl Pulse {
    pub(super) fn new(idle: Duration, request: Duration) -> Self {
        Self {
            opened: now(),
            last: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            idle,
            stalled: request.saturating_add(idle),
        }
    }

    /// A request has come; it counts until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        self.touch();
        Busy(self.clone())
    }

    /// When the connection is to be given up, should nothing happen until then.
    fn deadline(&self) -> Instant {
        let patience = if self.requests.load(Relaxed) == 0 { self.idle } else { self.stalled };
        let last = self.opened + Duration::from_millis(self.last.load(Relaxed));
        last.checked_add(patience).unwrap_or(last + FOREVER)
    }

    /// When to look at [`Pulse::expired`] again. A request that ends meanwhile moves the deadline
    /// nearer without a word, so an idle connection may live for up to twice its time.
    pub(super) fn next_look(&self) -> Instant {
        self.deadline().min(now() + self.idle.min(FOREVER))
    }

    pub(super) fn expired(&self) -> bool {
        self.deadline() <= now()
    }

    fn touch(&self) {
        let since = now().saturating_duration_since(self.opened).as_millis();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A request whose answer is not yet sent.
pub(super) struct Busy(Arc<Pulse>);

impl Busy {
    /// The answer has got on.
    pub(super) fn touch(&self) {
        self.0.touch();
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.touch();
        self.0.requests.fetch_sub(1, Relaxed);
    }
}

/// See the module.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    /// What of [`SPOILER`] hyper has yet to read, once a head was refused.
    spoiler: Option<&'static [u8]>,
    header_timeout: Duration,
    /// Runs while a head has begun and not ended; a new connection begins with its first head.
    header_deadline: Option<Pin<Box<Sleep>>>,
    linger: Option<Pin<Box<Sleep>>>,
    pulse: Arc<Pulse>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, header_timeout: Duration, pulse: Arc<Pulse>) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            spoiler: None,
            header_timeout,
            header_deadline: Some(Box::pin(sleep(header_timeout))),
            linger: None,
            pulse,
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        // On HTTP/2 pings are written too: its progress is that of the bodies.
        if matches!(written, Poll::Ready(Ok(_))) && self.framing.state != State::Off {
            self.pulse.touch();
        }
    }
}

impl<S: AsyncRead + Unpin> AsyncRead for Wire<S> {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let this = &mut *self;
        let before = buf.filled().len();
        if this.spoiler.is_none() {
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            if let Some(at) = this.framing.refuses(&buf.filled()[before..]) {
                buf.set_filled(before + at);
                this.spoiler = Some(SPOILER);
            }
            let in_head = this.framing.in_head();
            if read.is_ready() && !in_head {
                this.header_deadline = None;
            } else if read.is_pending() && in_head && this.header_deadline.is_none() {
                this.header_deadline = Some(Box::pin(sleep(this.header_timeout)));
            }
            match (&read, &mut this.header_deadline) {
                (Poll::Pending, Some(deadline)) => {
                    ready!(deadline.as_mut().poll(cx));
                    return Poll::Ready(Err(io::ErrorKind::TimedOut.into()));
                }
                (Poll::Ready(Ok(())), _) => {}
                _ => return read,
            }
        }
        if let Some(spoiler) = &mut this.spoiler {
            let (now, later) = spoiler.split_at(spoiler.len().min(buf.remaining()));
            buf.put_slice(now);
            *spoiler = later;
        }
        Poll::Ready(Ok(()))
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Wire<S> {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write(cx, bytes);
        self.wrote(&written);
        written
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let written = Pin::new(&mut self.stream).poll_write_vectored(cx, bytes);
        self.wrote(&written);
        written
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        let this = &mut *self;
        if this.linger.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let linger = this.linger.get_or_insert_with(|| Box::pin(sleep(LINGER)));
        let mut scratch = [0; 4096];
        loop {
            if linger.as_mut().poll(cx).is_ready() {
                return Poll::Ready(Ok(()));
            }
            let mut buf = ReadBuf::new(&mut scratch);
            match ready!(Pin::new(&mut this.stream).poll_read(cx, &mut buf)) {
                Ok(()) if !buf.filled().is_empty() => {}
                _ => return Poll::Ready(Ok(())),
            }
        }
    }
}

/// Where in the HTTP/1 message syntax the next byte stands (RFC 9112 §2, §6, §7.1).
#[derive(Clone, Copy, PartialEq, Eq)]
enum State {
    /// Before or within the request line.
    Request,
    Header,
    Body(u64),
    ChunkSize,
    /// Data and the line end after it.
    Chunk(u64),
    Trailer,
    /// HTTP/2, a head refused, or a chunk size hyper will refuse: nothing more to look for.
    Off,
}

/// Reads along with hyper's parser, only closely enough to find each head's framing headers.
struct Framing {
    state: State,
    /// The beginning of a line whose end has not come.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    fn new() -> Self {
        Self { state: State::Request, line: Vec::new(), length: None, chunked: false }
    }

    /// Whether a head has begun and not ended.
    fn in_head(&self) -> bool {
        match self.state {
            State::Request => !self.line.is_empty(),
            State::Header => true,
            _ => false,
        }
    }

    /// Takes the next bytes; the offset of a line end before which the head became unacceptable.
    fn refuses(&mut self, bytes: &[u8]) -> Option<usize> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Off => return None,
                State::Body(left) | State::Chunk(left) => {
                    let here = left.min((bytes.len() - at) as u64);
                    at += here as usize;
                    let left = left - here;
                    self.state = match self.state {
                        State::Body(_) if left == 0 => State::Request,
                        State::Body(_) => State::Body(left),
                        _ if left == 0 => State::ChunkSize,
                        _ => State::Chunk(left),
                    };
                }
                State::Request | State::Header | State::ChunkSize | State::Trailer => {
                    let rest = &bytes[at..];
                    let Some(end) = memchr::memchr(b'\n', rest) else {
                        self.keep(rest);
                        return None;
                    };
                    let sound = if self.line.is_empty() {
                        self.end_of_line(&rest[..end])
                    } else {
                        self.keep(&rest[..end]);
                        let line = std::mem::take(&mut self.line);
                        self.end_of_line(&line)
                    };
                    at += end;
                    if !sound {
                        self.state = State::Off;
                        return Some(at);
                    }
                    at += 1;
                }
            }
        }
        None
    }

    fn keep(&mut self, part: &[u8]) {
        let room = LINE.saturating_sub(self.line.len());
        self.line.extend_from_slice(&part[..part.len().min(room)]);
    }

    /// Takes a line without its LF; `false` where the head is to be refused.
    fn end_of_line(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Request if line.is_empty() => {} // RFC 9112 §2.2 lets them pass
            State::Request if line.starts_with(b"PRI ") => self.state = State::Off,
            State::Request => self.state = State::Header,
            State::Header if line.is_empty() => {
                self.state = match self.length.take() {
                    _ if std::mem::take(&mut self.chunked) => State::ChunkSize,
                    None | Some(0) => State::Request,
                    Some(length) => State::Body(length),
                };
            }
            State::Header => return self.header(line),
            State::ChunkSize => {
                let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
                let size = std::str::from_utf8(&line[..digits]).ok();
                self.state = match size.and_then(|hex| u64::from_str_radix(hex, 16).ok()) {
                    Some(0) => State::Trailer,
                    Some(size) => State::Chunk(size.saturating_add(2)),
                    None => State::Off,
                };
            }
            State::Trailer if line.is_empty() => self.state = State::Request,
            _ => {}
        }
        true
    }

    fn header(&mut self, line: &[u8]) -> bool {
        // Both names begin with a letter few others do.
        if !matches!(line.first(), Some(b'c' | b'C' | b't' | b'T')) {
            return true;
        }
        let Some(colon) = memchr::memchr(b':', line) else {
            return true;
        };
        let (name, value) = (&line[..colon], line[colon + 1..].trim_ascii());
        let length = name.eq_ignore_ascii_case(b"content-length");
        if !length && !name.eq_ignore_ascii_case(b"transfer-encoding") {
            return true;
        }
        if self.chunked || self.length.is_some() || line.len() >= LINE {
            return false;
        }
        if length {
            let digits = value.iter().all(u8::is_ascii_digit);
            let value = std::str::from_utf8(value).ok().filter(|_| digits);
            self.length = value.and_then(|value| value.parse().ok());
            self.length.is_some()
        } else {
            // Other codings would be passed on undecoded.
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
            self.chunked
        }
    }
}
