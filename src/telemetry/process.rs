//! The process as Linux sees it, by the names of Prometheus' client guidelines ("process metrics").
//! Where there is no `/proc`, there are no such metrics.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric as _},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
};

/// Ticks of a second in `/proc` (proc(5): USER_HZ, 100 on every architecture Rust supports).
const TICKS: f64 = 100.0;

/// Reads the process's figures at each scrape.
#[derive(Debug)]
pub struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut gauge = |name: &str, help: &str, value: Option<f64>| {
            let Some(value) = value else { return Ok(()) };
            let gauge = ConstGauge::new(value);
            gauge.encode(encoder.encode_descriptor(name, help, None, gauge.metric_type())?)
        };
        let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
        let kilobytes = |name: &str| Some(field(&status, name)? * 1024.0);
        let resident = kilobytes("VmRSS:");
        gauge("process_resident_memory_bytes", "Resident memory", resident)?;
        gauge("process_virtual_memory_bytes", "Virtual memory", kilobytes("VmSize:"))?;
        gauge("process_threads", "Threads", field(&status, "Threads:"))?;
        let open = fs::read_dir("/proc/self/fd").ok().map(|entries| entries.count() as f64);
        gauge("process_open_fds", "Open file descriptors", open)?;
        let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
        let most = field(&limits, "Max open files");
        gauge("process_max_fds", "Upper bound of open file descriptors", most)?;
        let times = Times::read();
        let started = times.as_ref().map(|times| times.started);
        gauge("process_start_time_seconds", "Start of the process, since the epoch", started)?;
        let Some(times) = times else { return Ok(()) };
        let cpu = ConstCounter::new(times.cpu);
        let help = "Processor time of the process, in seconds";
        cpu.encode(encoder.encode_descriptor(
            "process_cpu_seconds",
            help,
            None,
            cpu.metric_type(),
        )?)
    }
}

/// The first number after a name in a file of lines.
fn field(text: &str, name: &str) -> Option<f64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// In seconds.
struct Times {
    cpu: f64,
    /// Since the epoch.
    started: f64,
}

impl Times {
    fn read() -> Option<Self> {
        let stat = fs::read_to_string("/proc/self/stat").ok()?;
        // The second field is the program's name in parentheses, which may contain spaces; the
        // ones after it are numbered from 3.
        let fields: Vec<&str> = stat.rsplit_once(')')?.1.split_whitespace().collect();
        let ticks = |number: usize| fields.get(number - 3)?.parse::<f64>().ok();
        let booted = field(&fs::read_to_string("/proc/stat").ok()?, "btime")?;
        Some(Self { cpu: (ticks(14)? + ticks(15)?) / TICKS, started: booted + ticks(22)? / TICKS })
    }
}
