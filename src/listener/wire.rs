//! The stream between a connection and hyper, for what hyper does not do itself.
//!
//! - Two `Content-Length`s, or one beside `Transfer-Encoding`, enable request smuggling (RFC 9112
//!   §11.2). hyper resolves some of them silently, so [`Framing`] parses along and poisons such a
//!   header section: hyper then responds with 400 and closes.
//! - hyper's timeout for the header section also closes idle connections; here the two are
//!   separate.
//! - A response sent before the request was read (400, 408, 413, 431) must not be lost to the reset
//!   that closing a socket with unread bytes causes: the close is a lingering one (RFC 9112 §9.6).

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

/// How long a closed connection continues to read, so that the client receives the response.
const LINGERING_CLOSE: Duration = Duration::from_secs(1);
/// Replaces the rest of a header section that [`Framing`] rejects: a header must not contain NUL,
/// and the section ends here.
const POISON: &[u8] = b"\0\r\n\r\n";
/// Bytes of a line that [`Framing`] inspects; longer framing headers are rejected.
const LINE: usize = 256;
/// Replaces durations beyond the range of the clock.
const VERY_LONG: Duration = Duration::from_secs(86_400);

/// The last activity of a connection, and the timeouts that depend on it.
pub(super) struct Activity {
    opened: Instant,
    /// Milliseconds after `opened`.
    last: AtomicU64,
    /// Requests whose responses are not yet sent.
    requests: AtomicUsize,
    idle: Duration,
    stalled: Duration,
}

#[allow(clippy::disallowed_methods)] // measures durations
fn now() -> Instant {
    Instant::now()
}

impl Activity {
    pub(super) fn new(idle: Duration, request: Duration) -> Self {
        Self {
            opened: now(),
            last: AtomicU64::new(0),
            requests: AtomicUsize::new(0),
            idle,
            stalled: request.saturating_add(idle),
        }
    }

    /// Counts a request in flight until the result is dropped.
    pub(super) fn begin(self: &Arc<Self>) -> Busy {
        self.requests.fetch_add(1, Relaxed);
        self.touch();
        Busy(self.clone())
    }

    /// When the connection times out unless there is activity.
    fn deadline(&self) -> Instant {
        let timeout = if self.requests.load(Relaxed) == 0 { self.idle } else { self.stalled };
        let last = self.opened + Duration::from_millis(self.last.load(Relaxed));
        last.checked_add(timeout).unwrap_or(last + VERY_LONG)
    }

    /// When to check [`Activity::expired`] again. A request that ends in the meantime brings the
    /// deadline forward without notice, so an idle connection may live for up to twice its timeout.
    pub(super) fn next_check(&self) -> Instant {
        self.deadline().min(now() + self.idle.min(VERY_LONG))
    }

    pub(super) fn expired(&self) -> bool {
        self.deadline() <= now()
    }

    fn touch(&self) {
        let since = now().saturating_duration_since(self.opened).as_millis();
        self.last.store(u64::try_from(since).unwrap_or(u64::MAX), Relaxed);
    }
}

/// A request whose response is not yet sent.
pub(super) struct Busy(Arc<Activity>);

impl Busy {
    /// The response has made progress.
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

/// A stream with the checks of this module.
pub(super) struct Wire<S> {
    stream: S,
    framing: Framing,
    /// What of [`POISON`] hyper has yet to read, after a rejected header section.
    poison: Option<&'static [u8]>,
    header_timeout: Duration,
    /// Set while a header section is incomplete; a new connection starts with one.
    header_deadline: Option<Pin<Box<Sleep>>>,
    lingering_close: Option<Pin<Box<Sleep>>>,
    activity: Arc<Activity>,
}

impl<S> Wire<S> {
    pub(super) fn new(stream: S, header_timeout: Duration, activity: Arc<Activity>) -> Self {
        Self {
            stream,
            framing: Framing::new(),
            poison: None,
            header_timeout,
            header_deadline: Some(Box::pin(sleep(header_timeout))),
            lingering_close: None,
            activity,
        }
    }

    fn wrote(&self, written: &Poll<io::Result<usize>>) {
        // HTTP/2 also writes pings: its progress is that of the bodies.
        if matches!(written, Poll::Ready(Ok(_))) && self.framing.state != State::Off {
            self.activity.touch();
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
        if this.poison.is_none() {
            let read = Pin::new(&mut this.stream).poll_read(cx, buf);
            if let Some(at) = this.framing.poisons_at(&buf.filled()[before..]) {
                buf.set_filled(before + at);
                this.poison = Some(POISON);
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
        if let Some(poison) = &mut this.poison {
            let (now, later) = poison.split_at(poison.len().min(buf.remaining()));
            buf.put_slice(now);
            *poison = later;
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
        if this.lingering_close.is_none() {
            ready!(Pin::new(&mut this.stream).poll_shutdown(cx))?;
        }
        let lingering_close =
            this.lingering_close.get_or_insert_with(|| Box::pin(sleep(LINGERING_CLOSE)));
        let mut scratch = [0; 4096];
        loop {
            if lingering_close.as_mut().poll(cx).is_ready() {
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

/// Position of the next byte in the HTTP/1 message syntax (RFC 9112 §2, §6, §7.1).
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
    /// HTTP/2, a rejected header section, or a chunk size that hyper will reject: nothing more to
    /// check.
    Off,
}

/// Parses along with hyper, just enough to find the framing headers of each request.
struct Framing {
    state: State,
    /// The beginning of an incomplete line.
    line: Vec<u8>,
    length: Option<u64>,
    chunked: bool,
}

impl Framing {
    fn new() -> Self {
        Self { state: State::Request, line: Vec::new(), length: None, chunked: false }
    }

    /// Whether a header section is incomplete.
    fn in_head(&self) -> bool {
        match self.state {
            State::Request => !self.line.is_empty(),
            State::Header => true,
            _ => false,
        }
    }

    /// Consumes the next bytes; the offset of the line end at which a header section must be
    /// rejected.
    fn poisons_at(&mut self, bytes: &[u8]) -> Option<usize> {
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

    /// Consumes a line without its LF; `false` to reject the header section.
    fn end_of_line(&mut self, line: &[u8]) -> bool {
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        match self.state {
            State::Request if line.is_empty() => {} // allowed by RFC 9112 §2.2
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
        // Few other names begin with these letters.
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
            // hyper would pass other codings on without decoding.
            self.chunked = value.eq_ignore_ascii_case(b"chunked");
            self.chunked
        }
    }
}
