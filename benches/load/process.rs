//! What Linux says about a process: CPU time, memory, bytes written.

use std::fs;

type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// Microseconds of a clock tick: `USER_HZ` is 100 on every architecture that servers have.
const TICK: f64 = 10_000.0;

/// A line of `/proc/<pid>/stat` (`proc_pid_stat(5)`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stat {
    pub parent: u32,
    /// Clock ticks of user and system time.
    own: u64,
    /// The same of children that have exited and were waited for.
    reaped: u64,
}

impl Stat {
    pub fn parse(line: &str) -> Option<Self> {
        // The name of the program is in parentheses, and may contain anything.
        let (_, fields) = line.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_ascii_whitespace().collect();
        // Numbered from 1 in the manual; the first here is the third there.
        let field = |number: usize| fields.get(number - 3)?.parse::<u64>().ok();
        Some(Self {
            parent: u32::try_from(field(4)?).ok()?,
            own: field(14)? + field(15)?,
            reaped: field(16)? + field(17)?,
        })
    }

    pub fn read(id: u32) -> Result<Self> {
        let path = format!("/proc/{id}/stat");
        let text = fs::read_to_string(&path).map_err(|error| format!("{path}: {error}"))?;
        Ok(Self::parse(&text).ok_or_else(|| format!("{path}: unknown format: {text}"))?)
    }
}

/// Microseconds of CPU time that a process has taken.
pub fn cpu(id: u32) -> Result<f64> {
    Ok(Stat::read(id)?.own as f64 * TICK)
}

/// Microseconds of CPU time of a process and its children, those that have exited included.
pub fn cpu_with_children(id: u32) -> Result<f64> {
    let parent = Stat::read(id)?;
    let mut ticks = parent.own + parent.reaped;
    for entry in fs::read_dir("/proc")? {
        let Some(child) = entry?.file_name().to_str().and_then(|name| name.parse().ok()) else {
            continue;
        };
        // A process may exit meanwhile.
        if let Ok(stat) = Stat::read(child)
            && stat.parent == id
        {
            ticks += stat.own;
        }
    }
    Ok(ticks as f64 * TICK)
}

/// The number after a name in a file of `/proc`, as in `VmRSS: 1234 kB`.
pub fn value(text: &str, name: &str) -> Option<f64> {
    let rest = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
    rest.split_ascii_whitespace().next()?.parse().ok()
}

/// Memory of a process in MiB, by its name in `/proc/<pid>/status`: `VmRSS` now, `VmHWM` at most.
pub fn memory(id: u32, name: &str) -> Result<f64> {
    let status = fs::read_to_string(format!("/proc/{id}/status"))?;
    let kib = value(&status, name).ok_or_else(|| format!("no {name} in /proc/{id}/status"))?;
    Ok(kib / 1024.0)
}

/// Bytes that a process has caused to be written to a disk.
pub fn written(id: u32) -> Result<f64> {
    let io = fs::read_to_string(format!("/proc/{id}/io"))?;
    value(&io, "write_bytes").ok_or_else(|| format!("no write_bytes in /proc/{id}/io").into())
}

/// The CPU of this machine, as Linux names it.
pub fn cpu_model() -> String {
    let text = fs::read_to_string("/proc/cpuinfo").unwrap_or_default();
    let line = text.lines().find(|line| line.starts_with("model name"));
    let name = line.and_then(|line| line.split_once(':')).map(|(_, name)| name.trim());
    name.unwrap_or("unknown").to_owned()
}
