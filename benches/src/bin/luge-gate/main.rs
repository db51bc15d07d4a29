//! The gate: what every path costs, against a committed baseline.
//!
//!     luge-gate [--bless] [--only TEXT] [--baseline FILE] [--keep]
//!
//! It runs itself under callgrind, which counts the same on every run
//! (`callgrind`); `cost` is what is counted and kept, `judge` what is too much.
//! Where valgrind is missing it says so and passes: there is nothing to compare
//! with. What is measured is in `luge_benches::paths`.
#![forbid(unsafe_code)]

mod callgrind;
mod cost;
mod judge;

use std::{
    env, io,
    path::{Path, PathBuf},
    process::ExitCode,
};

use cost::Baseline;
use luge_benches::paths::{Accounts, PATHS, Run};

/// The argument by which the gate runs itself under callgrind.
const MEASURE: &str = "--measure";

const USAGE: &str = "\
luge-gate: counts what the hot paths cost, and compares it with a baseline

  --bless           writes the baseline instead
  --only TEXT       of the paths, those with TEXT in their name; not with --bless
  --baseline FILE   the baseline [default: baseline.json beside the crate's manifest]
  --keep            keeps callgrind's files, for callgrind_annotate

Exit status: 0 if nothing grew or valgrind is not installed, 1 if something grew, 2 if it could not
be measured.";

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    #[error("the baseline cannot be read ({0}); make it anew with --bless")]
    Baseline(#[from] serde_json::Error),
    #[error("callgrind ended with {status}; its words:\n{words}")]
    Callgrind { status: String, words: String },
    #[error("callgrind's figures of {path:?} cannot be read: {reason}")]
    Figures { path: &'static str, reason: String },
    #[error("callgrind tells of more than {wanted} runs: which is which?")]
    Runs { wanted: usize },
}

impl GateError {
    fn file(what: &str) -> impl FnOnce(io::Error) -> Self + use<> {
        let what = what.to_owned();
        move |source| Self::File { what, source }
    }
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (mut bless, mut keep) = (false, false);
    let mut only = String::new();
    let mut baseline = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.len()) {
            (MEASURE, _) => return measure(&arguments.next().unwrap_or_default()),
            ("--bless", _) => bless = true,
            ("--keep", _) => keep = true,
            ("--only", 1..) => only = arguments.next().unwrap_or_default(),
            ("--baseline", 1..) => baseline = arguments.next().unwrap_or_default().into(),
            ("--help" | "-h", _) => return say(USAGE, ExitCode::SUCCESS),
            _ => return say(USAGE, ExitCode::from(2)),
        }
    }
    if bless && !only.is_empty() {
        return say(USAGE, ExitCode::from(2));
    }
    match run(&baseline, bless, &only, keep) {
        Ok((text, passed)) => {
            say(&text, if passed { ExitCode::SUCCESS } else { ExitCode::FAILURE })
        }
        Err(error) => say(&format!("gate: {error}"), ExitCode::from(2)),
    }
}

#[expect(clippy::print_stdout, reason = "this is what the program is for")]
fn say(text: &str, code: ExitCode) -> ExitCode {
    println!("{text}");
    code
}

fn run(file: &Path, bless: bool, only: &str, keep: bool) -> Result<(String, bool), GateError> {
    let Some(valgrind) = callgrind::version() else {
        let text = "gate: SKIPPED, since valgrind is not installed (Debian and Ubuntu: apt-get install valgrind)";
        return Ok((text.to_owned(), true));
    };
    // Before minutes are spent on what there is nothing to compare with.
    let known = if bless { None } else { Some(Baseline::read(file)?) };
    let (environment, costs) = callgrind::count(valgrind, only, keep)?;
    let Some(known) = known else {
        Baseline::new(environment, costs).write(file)?;
        return Ok((format!("gate: wrote {}", file.display()), true));
    };
    let verdict = judge::judge(&known, &environment, &costs);
    Ok((verdict.text, verdict.passed))
}

// What callgrind runs.

/// The paths with `only` in their name.
fn selected(only: &str) -> impl Iterator<Item = &'static luge_benches::paths::Path> {
    PATHS.iter().filter(move |path| path.name.contains(only))
}

/// Every path: once to warm up, once to be counted. Says on what processor.
fn measure(only: &str) -> ExitCode {
    let mut accounts = Accounts::default();
    for path in selected(only) {
        let mut prepare = (path.build)(&mut accounts);
        prepare()();
        let run = prepare();
        counted_no_more(counted(run));
    }
    say(&processor(), ExitCode::SUCCESS)
}

/// The architecture and the vector instructions that programs choose their code
/// by, as they are here; under valgrind these are what it offers.
fn processor() -> String {
    #[cfg(target_arch = "x86_64")]
    let vectors = [
        ("avx2", std::arch::is_x86_feature_detected!("avx2")),
        ("avx512", std::arch::is_x86_feature_detected!("avx512f")),
        ("erms", std::arch::is_x86_feature_detected!("ermsb")),
    ];
    #[cfg(not(target_arch = "x86_64"))]
    let vectors: [(&str, bool); 0] = [];
    let has = vectors.iter().filter(|(_, has)| *has).map(|(name, _)| format!(" {name}"));
    format!("{}{}", env::consts::ARCH, has.collect::<String>())
}

/// Callgrind counts what happens in here, and writes down what it has before
/// and after: its options name this function and [`counted_no_more`].
#[inline(never)]
fn counted(run: Run) -> usize {
    std::hint::black_box(run())
}

#[inline(never)]
fn counted_no_more(done: usize) {
    std::hint::black_box(done);
}
