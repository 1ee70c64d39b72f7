//! A cheap client, since it shares the machine with what it measures: requests are bytes prepared
//! in advance, and only the status, the length and the token of a response are parsed.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    task::JoinSet,
};

use crate::{Result, report::median, saved::Cpu};

/// Characters of a refresh token.
pub const TOKEN: usize = 84;
/// Before the refresh token in a response of the JSON API, and of OAuth.
const MARKS: [&[u8]; 2] = [br#""refreshToken":""#, br#""refresh_token":""#];

/// A kept-alive HTTP/1.1 connection.
pub struct Connection {
    stream: TcpStream,
    buffer: Vec<u8>,
}

impl Connection {
    pub async fn open(address: SocketAddr) -> Result<Self> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        Ok(Self { stream, buffer: vec![0; 64 * 1024] })
    }

    /// Sends a request; returns the status and the body of the response.
    pub async fn send(&mut self, request: &[u8]) -> Result<(u16, &[u8])> {
        self.stream.write_all(request).await?;
        let mut filled = 0;
        let head = loop {
            filled += self.read(filled).await?;
            if let Some(at) = find(&self.buffer[..filled], b"\r\n\r\n") {
                break at + 4;
            }
        };
        let status = std::str::from_utf8(&self.buffer[9..12])?.parse()?;
        let length =
            content_length(&self.buffer[..head]).ok_or("a response without Content-Length")?;
        while filled < head + length {
            filled += self.read(filled).await?;
        }
        Ok((status, &self.buffer[head..head + length]))
    }

    /// As [`Connection::send`], with the header section; for rare requests.
    pub async fn exchange(&mut self, request: &[u8]) -> Result<(u16, String, String)> {
        let (status, body) = self.send(request).await?;
        let body = String::from_utf8_lossy(body).into_owned();
        let end = find(&self.buffer, b"\r\n\r\n").unwrap_or_default();
        let head = String::from_utf8_lossy(&self.buffer[..end]).into_owned();
        Ok((status, head, body))
    }

    async fn read(&mut self, filled: usize) -> Result<usize> {
        match self.stream.read(&mut self.buffer[filled..]).await? {
            0 => Err("the server closed the connection, or its response is over 64 KiB".into()),
            read => Ok(read),
        }
    }
}

fn find(text: &[u8], what: &[u8]) -> Option<usize> {
    text.windows(what.len()).position(|window| window == what)
}

fn content_length(head: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"content-length:";
    let lines = head.split(|byte| *byte == b'\n');
    let value = lines.filter(|l| l.len() > NAME.len()).find_map(|line| {
        let (name, value) = line.split_at(NAME.len());
        name.eq_ignore_ascii_case(NAME).then_some(value)
    })?;
    std::str::from_utf8(value).ok()?.trim().parse().ok()
}

/// The bytes of a request.
pub fn request(method: &str, path: &str, bearer: Option<&str>, body: Option<&str>) -> Vec<u8> {
    let mut text =
        format!("{method} {path} HTTP/1.1\r\nHost: 127.0.0.1\r\nAccept: application/json\r\n");
    if let Some(token) = bearer {
        text.push_str(&format!("Authorization: Bearer {token}\r\n"));
    }
    if let Some(body) = body {
        text.push_str(&format!(
            "Content-Type: application/json\r\nContent-Length: {}\r\n",
            body.len()
        ));
    }
    text.push_str("\r\n");
    text.push_str(body.unwrap_or_default());
    text.into_bytes()
}

/// The requests that one connection sends, in turn.
#[derive(Default)]
pub struct Load {
    requests: Vec<Vec<u8>>,
    next: usize,
    /// The offset of the refresh token in each request; it is replaced by that of the response.
    token_at: Option<usize>,
    mark: &'static [u8],
    /// The offset of the mark in the last response.
    response_at: usize,
}

impl Load {
    /// The same request again and again.
    pub fn fixed(request: Vec<u8>) -> Self {
        Self { requests: vec![request], ..Self::default() }
    }

    /// One more request, after the others.
    pub fn add(&mut self, request: Vec<u8>) {
        self.requests.push(request);
    }

    /// Refreshes these sessions in turn, each along its own chain.
    pub fn refreshing(tokens: &[String], follow: bool) -> Self {
        let request = |token: &String| {
            let body = format!(r#"{{"refreshToken":"{token}"}}"#);
            request("POST", "/api/v1/auth/token/refresh", None, Some(&body))
        };
        let requests: Vec<_> = tokens.iter().map(request).collect();
        // The token ends two characters before the end of the body.
        let token_at = requests.first().filter(|_| follow).map(|first| first.len() - 2 - TOKEN);
        Self { requests, token_at, mark: MARKS[0], ..Self::default() }
    }

    /// As [`Load::refreshing`], by requests of an OAuth client whose body ends with the token.
    pub fn exchanging(requests: Vec<Vec<u8>>) -> Self {
        let token_at = requests.first().map(|first| first.len() - TOKEN);
        Self { requests, token_at, mark: MARKS[1], ..Self::default() }
    }

    fn follow(&mut self, at: usize, body: &[u8]) -> Result<()> {
        let mark = self.mark;
        let known = body.get(self.response_at..).is_some_and(|rest| rest.starts_with(mark));
        if !known {
            self.response_at = find(body, mark).ok_or("a response without a refresh token")?;
        }
        let begin = self.response_at + mark.len();
        let token = body.get(begin..begin + TOKEN).ok_or("a truncated refresh token")?;
        self.requests[self.next][at..at + TOKEN].copy_from_slice(token);
        Ok(())
    }
}

/// The result of a round.
pub struct Round {
    pub per_second: f64,
    /// Milliseconds from a request to its response.
    pub median: f64,
    /// The 99th percentile of the same.
    pub p99: f64,
    /// All requests, those at the end included that are not in the others.
    pub requests: usize,
    /// CPU time per request, where it was measured.
    pub cpu: Vec<Cpu>,
}

impl Round {
    /// Of the milliseconds that requests took, and of so many more that were not timed.
    pub fn new(mut times: Vec<f64>, more: usize, lasting: Duration) -> Self {
        times.sort_by(f64::total_cmp);
        let p99 = times.get(times.len() * 99 / 100).copied().unwrap_or(f64::NAN);
        let per_second = times.len() as f64 / lasting.as_secs_f64();
        Self { per_second, p99, requests: times.len() + more, median: median(times), cpu: vec![] }
    }
}

/// Runs every load over a connection of its own. Responses after the deadline are read but not
/// counted.
pub async fn drive(address: SocketAddr, loads: &mut Vec<Load>, lasting: Duration) -> Result<Round> {
    let mut connections = Vec::with_capacity(loads.len());
    for load in loads.drain(..) {
        connections.push((Connection::open(address).await?, load));
    }
    let until = Instant::now() + lasting;
    let mut tasks = JoinSet::new();
    for (connection, load) in connections {
        tasks.spawn(work(connection, load, until));
    }
    let mut times = Vec::new();
    while let Some(done) = tasks.join_next().await {
        let (load, took) = done??;
        loads.push(load);
        times.extend(took);
    }
    Ok(Round::new(times, loads.len(), lasting))
}

/// Sends a request at fixed intervals over each of some connections.
pub async fn pace(
    address: SocketAddr,
    request: &[u8],
    connections: u32,
    interval: Duration,
    lasting: Duration,
) -> Result<Round> {
    let mut tasks = JoinSet::new();
    let begin = Instant::now();
    for number in 0..connections {
        let (mut connection, request) = (Connection::open(address).await?, request.to_vec());
        tasks.spawn(async move {
            let mut times = vec![];
            // Evenly spread over the interval.
            let mut due = begin + interval * number / connections;
            while due < begin + lasting {
                tokio::time::sleep_until(due.into()).await;
                let began = Instant::now();
                let (status, body) = connection.send(&request).await?;
                if status != 200 {
                    let body = String::from_utf8_lossy(body);
                    return Err(format!("response {status}: {body}").into());
                }
                times.push(began.elapsed().as_secs_f64() * 1e3);
                due += interval;
            }
            Ok::<_, crate::Error>(times)
        });
    }
    let mut times = vec![];
    while let Some(done) = tasks.join_next().await {
        times.extend(done??);
    }
    Ok(Round::new(times, 0, lasting))
}

async fn work(
    mut connection: Connection,
    mut load: Load,
    until: Instant,
) -> Result<(Load, Vec<f64>)> {
    let mut times = Vec::with_capacity(16 * 1024);
    loop {
        let began = Instant::now();
        let (status, body) = connection.send(&load.requests[load.next]).await?;
        if status != 200 && status != 201 {
            return Err(format!("response {status}: {}", String::from_utf8_lossy(body)).into());
        }
        if let Some(at) = load.token_at {
            load.follow(at, body)?;
        }
        load.next = (load.next + 1) % load.requests.len();
        let ended = Instant::now();
        if ended >= until {
            return Ok((load, times));
        }
        times.push((ended - began).as_secs_f64() * 1e3);
    }
}
