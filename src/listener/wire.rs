//! The stream between a connection and hyper, for what hyper does not do itself.
//!
//! - Two `Content-Length`s, or one beside `Transfer-Encoding`, enable request smuggling (RFC 9112
//!   §11.2). hyper resolves some of them silently, so [`Framing`] parses along and poisons such a
//!   header section: hyper then responds with 400 and closes. Chunked bodies that the two could
//!   read differently end early.
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
/// Bytes of a line that [`Framing`] inspects; longer framing headers, chunk-size lines and trailer
/// fields are rejected.
const LINE: usize = 256;
/// The start of an HTTP/2 connection (RFC 9113 §3.4).
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";
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
    /// What hyper has yet to read of [`Rejected::replacement`]; then the stream ends.
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
            if let Some(rejected) = this.framing.rejects(&buf.filled()[before..]) {
                buf.set_filled(before + rejected.at);
                this.poison = Some(rejected.replacement);
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
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    /// At the start of a connection: so many bytes of [`PREFACE`] were read.
    Preface(usize),
    /// Before or within the request line.
    Request,
    Header,
    Body(u64),
    ChunkSize,
    /// Data and the line end after it.
    Chunk(u64),
    Trailer,
    /// HTTP/2, or rejected: nothing more to check.
    Off,
}

/// Where hyper must not read on.
#[derive(Debug, PartialEq, Eq)]
struct Rejected {
    /// The offset of the line end.
    at: usize,
    /// What hyper reads instead of the rest: [`POISON`], or nothing, which makes a body incomplete.
    replacement: &'static [u8],
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
        Self { state: State::Preface(0), line: Vec::new(), length: None, chunked: false }
    }

    /// Whether a header section is incomplete.
    fn in_head(&self) -> bool {
        match self.state {
            State::Preface(read) => read > 0,
            State::Request => !self.line.is_empty(),
            State::Header => true,
            _ => false,
        }
    }

    /// Consumes the next bytes; where the message must be rejected, if it must.
    fn rejects(&mut self, bytes: &[u8]) -> Option<Rejected> {
        let mut at = 0;
        while at < bytes.len() {
            match self.state {
                State::Off => return None,
                // hyper decides by the same bytes whether the connection is HTTP/2.
                State::Preface(read) => {
                    let fits = |(a, b): &(&u8, &u8)| a == b;
                    let same = PREFACE[read..].iter().zip(&bytes[at..]).take_while(fits).count();
                    at += same;
                    let read = read + same;
                    if read == PREFACE.len() {
                        self.state = State::Off;
                    } else if at == bytes.len() {
                        self.state = State::Preface(read);
                    } else {
                        self.state = State::Request;
                        // No part of the preface is a framing header.
                        let _ = self.rejects(&PREFACE[..read]);
                    }
                }
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
                    let in_body = matches!(self.state, State::ChunkSize | State::Trailer);
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
                        let replacement = if in_body { &[] } else { POISON };
                        return Some(Rejected { at, replacement });
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

    /// Consumes a line without its LF, of which [`Framing::keep`] may have dropped what exceeds
    /// [`LINE`]; `false` to reject the message.
    fn end_of_line(&mut self, line: &[u8]) -> bool {
        let without_cr = line.strip_suffix(b"\r");
        // RFC 9112 §7.1: within a chunked body, lines end with CRLF.
        if matches!(self.state, State::ChunkSize | State::Trailer)
            && (without_cr.is_none() || line.len() >= LINE)
        {
            return false;
        }
        let line = without_cr.unwrap_or(line);
        match self.state {
            State::Request if line.is_empty() => {} // allowed by RFC 9112 §2.2
            State::Request => self.state = State::Header,
            State::Header if line.is_empty() => {
                self.state = match self.length.take() {
                    _ if std::mem::take(&mut self.chunked) => State::ChunkSize,
                    None | Some(0) => State::Request,
                    Some(length) => State::Body(length),
                };
            }
            State::Header => return self.header(line),
            State::ChunkSize => match chunk_size(line) {
                Some(0) => self.state = State::Trailer,
                Some(size) => self.state = State::Chunk(size.saturating_add(2)),
                None => return false,
            },
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

/// The size in a chunk-size line: 1 to 16 hexadecimal digits and possibly an extension.
fn chunk_size(line: &[u8]) -> Option<u64> {
    let digits = line.iter().take_while(|byte| byte.is_ascii_hexdigit()).count();
    let (digits, rest) = line.split_at(digits);
    if digits.len() > 16 || !matches!(rest.trim_ascii_start().first(), None | Some(b';')) {
        return None;
    }
    u64::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every way to split a message over two reads leads to the same result.
    #[track_caller]
    fn parsed(message: &[u8]) -> (State, Option<usize>) {
        let results = (0..=message.len()).map(|split| {
            let mut framing = Framing::new();
            let (first, second) = message.split_at(split);
            let rejected = framing.rejects(first).map(|rejected| rejected.at);
            let rejected =
                rejected.or_else(|| framing.rejects(second).map(|rejected| split + rejected.at));
            (framing.state, rejected)
        });
        let results: Vec<_> = results.collect();
        assert!(results.iter().all(|result| *result == results[0]), "{message:?}: {results:?}");
        results[0]
    }

    #[test]
    fn t106_a_split_message_is_read_like_a_whole_one() {
        let head = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
        let chunked = |body: &str| parsed(format!("{head}{body}").as_bytes());
        assert_eq!(chunked("5;a=b\r\nabcde\r\n0\r\nX: y\r\n\r\n"), (State::Request, None));
        assert_eq!(chunked("0000000000000005 \t\r\n"), (State::Chunk(7), None));
        let long = "0".repeat(300);
        for refused in [
            format!("{long}5\r\n"),
            format!("5;{long}\r\n"),
            format!("0\r\nX: {long}\r\n"),
            "00000000000000005\r\n".to_owned(),
            "5\n".to_owned(),
            "5 5\r\n".to_owned(),
            "+5\r\n".to_owned(),
            "\r\n".to_owned(),
            "0\r\nX: y\n".to_owned(),
            "0\r\n\n".to_owned(),
        ] {
            let end = head.len() + refused.len() - 1;
            assert_eq!(chunked(&refused), (State::Off, Some(end)), "{refused:?}");
        }
        assert_eq!(parsed(PREFACE), (State::Off, None));
        for other in ["PRI / HTTP/1.1\r\n", "PRI * HTTP/1.1\r\n", "PRI * HTTP/2.0\r\n\r\nSN\r\n"] {
            let doubled = "Content-Length: 1\r\nContent-Length: 1\r\n\r\n";
            let (state, rejected) = parsed(format!("{other}{doubled}").as_bytes());
            assert_eq!((state, rejected.is_some()), (State::Off, true), "{other:?}");
        }
    }
}
