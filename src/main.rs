//! The `propusk` program.
#![forbid(unsafe_code)]

use std::process::ExitCode;

/// 5 to 7 % higher throughput than with the system's allocator.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    propusk::cli::run()
}
