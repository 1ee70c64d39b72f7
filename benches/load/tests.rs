//! Tests of what the load driver reads: files of `/proc`, and figures of earlier runs.
#![forbid(unsafe_code)]
#![allow(dead_code)] // the driver uses the rest

#[path = "process.rs"]
mod process;
#[path = "saved.rs"]
mod saved;

use process::Stat;
use saved::{Cpu, Record, Run, Saved};

#[test]
fn cpu_time_is_read_whatever_the_name_of_the_program() {
    let fields = "S 41 42 42 0 -1 4194560 1200 9 3 0 130 20 700 8 20 0 5 0 36382 3133440 413";
    for name in ["propusk", "a b", ") S 1 2 (", ""] {
        let stat = Stat::parse(&format!("43 ({name}) {fields}\n")).unwrap();
        assert_eq!(format!("{stat:?}"), "Stat { parent: 41, own: 150, reaped: 708 }", "{name}");
    }
    for line in ["", "43 (x) S 41", "43 (x) S 41 42 42 0 -1 4194560 1200 9 3 0 many 20 700 8"] {
        assert_eq!(Stat::parse(line), None, "{line}");
    }
}

#[test]
fn the_cpu_time_of_this_process_and_of_its_parent_grows() {
    let id = std::process::id();
    let parent = Stat::read(id).unwrap().parent;
    let (own, family) = (process::cpu(id).unwrap(), process::cpu_with_children(parent).unwrap());
    let mut sum = 0_u64;
    while process::cpu(id).unwrap() < own + 50_000.0 {
        sum = (0..100_000).fold(sum, |sum: u64, n| std::hint::black_box(sum.wrapping_add(n)));
    }
    assert!(process::cpu_with_children(parent).unwrap() >= family + 50_000.0);
    assert!(Stat::read(u32::MAX).is_err());
}

#[test]
fn values_are_found_by_their_whole_name() {
    let status = "Name:\tpropusk\nVmPeak:\t  300 kB\nVmRSSx:\t1 kB\nVmRSS:\t   21504 kB\n";
    assert_eq!(process::value(status, "VmRSS"), Some(21_504.0));
    assert_eq!(
        process::value("cancelled_write_bytes: 1\nwrite_bytes: 4096\n", "write_bytes"),
        Some(4096.0)
    );
    assert_eq!(process::value(status, "VmHWM"), None);
    assert_eq!(process::value(status, "Name"), None);
    let (now, most) = (
        process::memory(std::process::id(), "VmRSS"),
        process::memory(std::process::id(), "VmHWM"),
    );
    assert!((0.5..=most.unwrap()).contains(&now.unwrap()));
}

fn run(cpu: &str) -> Run {
    Run {
        cpu: cpu.to_owned(),
        cores: 2,
        build: "release".to_owned(),
        commit: "abc123".to_owned(),
        date: "2026-11-29".to_owned(),
    }
}

fn record(figure: &str, median: f64, cpu: Option<Cpu>) -> Record {
    let rounds = vec![median - 1.0, median, median + 1.0];
    Record {
        figure: figure.to_owned(),
        unit: "/s".to_owned(),
        rounds,
        median,
        limit: Some(9.0),
        cpu,
    }
}

#[test]
fn saved_figures_are_read_back() {
    let saved = Saved {
        run: run("AMD EPYC"),
        records: vec![
            record(
                "refresh, PostgreSQL",
                5000.0,
                Some(Cpu { server: 120.5, postgres: Some(80.0) }),
            ),
            record("refresh, SQLite", 7000.0, Some(Cpu { server: 150.0, postgres: None })),
            Record { limit: None, ..record("size of the stripped binary", 30.0, None) },
        ],
    };
    let text = saved.render().unwrap();
    assert_eq!(text.lines().count(), 4);
    assert_eq!(Saved::parse(&text).as_ref(), Ok(&saved));
    assert_eq!(Saved::parse(&format!("\n{text}\n")).as_ref(), Ok(&saved), "blank lines");
}

#[test]
fn a_broken_file_is_refused_with_its_line() {
    assert_eq!(Saved::parse("").unwrap_err(), "the file is empty");
    let run = serde_json::to_string(&run("x")).unwrap();
    for (text, line) in
        [("{}", "line 1: "), (&format!("{run}\n{{\"figure\":\"x\"}}") as &str, "line 2: ")]
    {
        let error = Saved::parse(text).unwrap_err();
        assert!(error.starts_with(line), "{error}");
    }
}

#[test]
fn a_comparison_has_ratios_and_names_another_machine() {
    let cpu = |server, postgres| Some(Cpu { server, postgres });
    let then = Saved {
        run: run("AMD EPYC"),
        records: vec![record("refresh", 4000.0, cpu(100.0, Some(50.0)))],
    };
    let now = Saved {
        run: run("AMD EPYC"),
        records: vec![record("refresh", 5000.0, cpu(80.0, None)), record("login", 40.0, None)],
    };
    let text = now.beside(&then);
    assert!(!text.contains("ANOTHER"), "{text}");
    let row = "| refresh | 4000 /s | 5000 /s | 1.25 | 100 µs | 80.0 µs | 0.80 | 50.0 µs |  |  |";
    assert!(text.contains(row), "{text}");
    assert!(text.contains("| login | new |"), "{text}");

    for run in [run("Xeon"), Run { cores: 64, ..run("AMD EPYC") }] {
        let text = now.beside(&Saved { run, ..then.clone() });
        assert!(text.contains("ANOTHER MACHINE"), "{text}");
    }
    let debug = Run { build: "debug".to_owned(), ..run("AMD EPYC") };
    assert!(now.beside(&Saved { run: debug, ..then }).contains("ANOTHER BUILD: debug then"));
}
