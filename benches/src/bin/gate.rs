//! The gate: the instructions of every path against a committed
//! baseline.
//!
//!     luge-gate [--bless] [--baseline FILE] [--keep]
//!
//! It runs itself under callgrind, which counts the same on every run. Where
//! valgrind is missing it says so and passes: there is nothing to compare with.
//! What is measured is in `luge_benches::paths`.

use std::{
    collections::BTreeMap,
    env, fs, io,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
};

use luge_benches::paths::{Accounts, GROWTHS, PATHS, Run};
use serde::{Deserialize, Serialize};

/// How much a path may grow, in per cent of its baseline.
const PERCENT_MAX: u64 = 3;
/// So few more are no news, whatever the path.
const SLACK: u64 = 20;
/// The argument by which the gate runs itself under callgrind.
const MEASURE: &str = "--measure";

const USAGE: &str = "\
luge-gate: counts the instructions of the hot paths, and compares them with a baseline

  --bless           writes the baseline instead
  --baseline FILE   the baseline [default: baseline.json beside the crate's manifest]
  --keep            keeps callgrind's files, for callgrind_annotate

Exit status: 0 if nothing grew or valgrind is not installed, 1 if something grew, 2 if it could not
be measured.";

/// Instructions of each path.
type Costs = BTreeMap<String, u64>;

/// The committed figures.
#[derive(Debug, Serialize, Deserialize)]
struct Baseline {
    /// How to read this file, for people.
    about: String,
    /// What the figures depend on besides the code.
    measured_with: String,
    paths: Costs,
}

/// Why there are no figures.
#[derive(Debug, thiserror::Error)]
enum GateError {
    #[error("{what}: {source}")]
    File { what: String, source: io::Error },
    #[error("the baseline cannot be read ({0}); make it anew with --bless")]
    Baseline(#[from] serde_json::Error),
    #[error("callgrind ended with {status}; its words:\n{words}")]
    Callgrind { status: String, words: String },
    #[error("callgrind tells of more than {wanted} runs: which is which?")]
    Runs { wanted: usize },
}

fn main() -> ExitCode {
    let mut arguments = env::args().skip(1);
    let (mut bless, mut keep) = (false, false);
    let mut baseline = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("baseline.json");
    while let Some(argument) = arguments.next() {
        match (argument.as_str(), arguments.len()) {
            (MEASURE, _) => return measure(),
            ("--bless", _) => bless = true,
            ("--keep", _) => keep = true,
            ("--baseline", 1..) => baseline = arguments.next().unwrap_or_default().into(),
            ("--help" | "-h", _) => return say(USAGE, ExitCode::SUCCESS),
            _ => return say(USAGE, ExitCode::from(2)),
        }
    }
    match run(&baseline, bless, keep) {
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

fn run(baseline: &Path, bless: bool, keep: bool) -> Result<(String, bool), GateError> {
    let Some(valgrind) = valgrind_version() else {
        let text = "gate: SKIPPED, since valgrind is not installed (Debian and Ubuntu: apt-get install valgrind)";
        return Ok((text.to_owned(), true));
    };
    let costs = count(keep)?;
    if bless {
        write_baseline(baseline, &valgrind, costs)?;
        return Ok((format!("gate: wrote {}", baseline.display()), true));
    }
    let known = fs::read(baseline).map_err(|source| GateError::File {
        what: format!("cannot read {}; make it with --bless", baseline.display()),
        source,
    })?;
    let known: Baseline = serde_json::from_slice(&known)?;
    Ok(judge(&known, &costs))
}

fn valgrind_version() -> Option<String> {
    let output = Command::new("valgrind").arg("--version").output().ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn write_baseline(file: &Path, valgrind: &str, paths: Costs) -> Result<(), GateError> {
    let baseline = Baseline {
        about: "instructions of one run of each path; written by luge-gate --bless, and changed only by a commit that says why".to_owned(),
        measured_with: format!("{valgrind}, {}", env::consts::ARCH),
        paths,
    };
    let mut text = serde_json::to_string_pretty(&baseline)?;
    text.push('\n');
    let what = format!("cannot write {}", file.display());
    fs::write(file, text).map_err(|source| GateError::File { what, source })
}

// What callgrind runs.

/// Every path: once to warm up, once to be counted.
fn measure() -> ExitCode {
    let mut accounts = Accounts::default();
    for path in PATHS {
        let mut prepare = (path.build)(&mut accounts);
        prepare()();
        let run = prepare();
        counted_no_more(counted(run));
    }
    ExitCode::SUCCESS
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

// What callgrind says.

/// Runs every path under callgrind.
#[expect(clippy::print_stderr, reason = "where the files are is for people")]
fn count(keep: bool) -> Result<Costs, GateError> {
    let file = |what: &str| {
        let what = what.to_owned();
        move |source| GateError::File { what, source }
    };
    let program = env::current_exe().map_err(file("the gate cannot find itself"))?;
    let folder = env::temp_dir().join(format!("luge-gate-{}", std::process::id()));
    fs::create_dir_all(&folder).map_err(file("cannot make a temporary folder"))?;
    let stem = folder.join("counts");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", stem.display()))
        .args(["--toggle-collect=*luge_gate::counted", "--dump-before=*::counted*"])
        .arg("--dump-line=no")
        .arg(program)
        .arg(MEASURE)
        .stdin(Stdio::null())
        .output()
        .map_err(file("valgrind does not start"))?;
    let costs = if output.status.success() {
        read_counts(&stem)
    } else {
        let words = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = words.lines().rev().take(20).collect();
        let words = words.into_iter().rev().collect::<Vec<_>>().join("\n");
        Err(GateError::Callgrind { status: output.status.to_string(), words })
    };
    if keep {
        eprintln!("gate: callgrind's files are in {}", folder.display());
    } else {
        // What is left there is in nobody's way.
        drop(fs::remove_dir_all(&folder));
    }
    costs
}

/// Every second file is of a run; those between are of what prepared it.
fn read_counts(stem: &Path) -> Result<Costs, GateError> {
    let stem = stem.display();
    let mut costs = BTreeMap::new();
    for (index, path) in PATHS.iter().enumerate() {
        let file = format!("{stem}.{}", (index + 1) * 2);
        let text = fs::read(&file).map_err(|source| GateError::File {
            what: format!("callgrind left no figures of {:?}", path.name),
            source,
        })?;
        costs.insert(path.name.to_owned(), instructions(&String::from_utf8_lossy(&text)));
    }
    if fs::exists(format!("{stem}.{}", PATHS.len() * 2 + 1)).unwrap_or(false) {
        return Err(GateError::Runs { wanted: PATHS.len() });
    }
    Ok(costs)
}

/// The sum in one of callgrind's files.
fn instructions(text: &str) -> u64 {
    let sums = text.lines().filter_map(|line| {
        let sum = line.strip_prefix("totals:").or(line.strip_prefix("summary:"))?;
        sum.trim().parse().ok()
    });
    sums.max().unwrap_or(0)
}

// The judgement.

/// A table of what there is to say, and whether all is well.
fn judge(known: &Baseline, costs: &Costs) -> (String, bool) {
    let mut lines = vec![row("path", "instructions", "baseline", "")];
    let mut grown = Vec::new();
    let mut better = 0;
    for path in PATHS {
        let Some(cost) = costs.get(path.name).copied() else { continue };
        let Some(before) = known.paths.get(path.name).copied() else {
            lines.push(row(path.name, &cost.to_string(), "", "new"));
            grown.push(format!("{:?} is not in the baseline", path.name));
            continue;
        };
        let change = change(cost, before);
        lines.push(row(path.name, &cost.to_string(), &before.to_string(), &change));
        let slack = (before * PERCENT_MAX / 100).max(SLACK);
        if cost > before + slack {
            grown.push(format!("{:?} needs {change} instructions", path.name));
        }
        better += u32::from(cost + slack < before);
    }
    grown.extend(outgrown(costs));
    if grown.is_empty() {
        lines.push(format!("gate: passed, nothing grew by more than {PERCENT_MAX} %"));
        if better > 0 {
            lines.push("gate: something became better; hold it with --bless".to_owned());
        }
        return (lines.join("\n"), true);
    }
    lines.push(format!("gate: FAILED (the baseline is of {})", known.measured_with));
    lines.extend(grown.iter().map(|what| format!("  {what}")));
    lines.push("  if it has to be so: --bless, and a commit that says why".to_owned());
    (lines.join("\n"), false)
}

/// What grows with the account and must not.
fn outgrown(costs: &Costs) -> Vec<String> {
    let mut grown = Vec::new();
    for growth in GROWTHS {
        let (Some(small), Some(large)) = (costs.get(growth.small), costs.get(growth.large)) else {
            continue;
        };
        if large * 100 > small * growth.percent_max {
            grown.push(format!(
                "{:?} needs {} instructions, {:?} {}: at most {} % are allowed",
                growth.large, large, growth.small, small, growth.percent_max
            ));
        }
    }
    grown
}

fn row(name: &str, now: &str, before: &str, change: &str) -> String {
    format!("{name:<32}{now:>14}{before:>14}{change:>9}")
}

fn change(now: u64, then: u64) -> String {
    if now == then {
        return "=".to_owned();
    }
    format!("{:+.1} %", (now as f64 / then.max(1) as f64 - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn costs(cost: u64) -> Costs {
        PATHS.iter().map(|path| (path.name.to_owned(), cost)).collect()
    }

    fn baseline(paths: Costs) -> Baseline {
        Baseline { about: String::new(), measured_with: "a test".to_owned(), paths }
    }

    #[test]
    fn a_file_tells_of_its_sum() {
        assert_eq!(instructions("events: Ir\nsummary: 1200\n\nfn=main\n3 40\n"), 1200);
    }

    #[test]
    fn what_stays_within_three_per_cent_passes_and_what_does_not_is_named() {
        let known = baseline(costs(10_000));
        let mut now = costs(10_300);
        assert!(judge(&known, &now).1);
        now.insert(PATHS[0].name.to_owned(), 10_400);
        let (text, passed) = judge(&known, &now);
        assert!(!passed);
        assert!(text.contains(&format!("{:?} needs +4.0 % instructions", PATHS[0].name)), "{text}");
    }

    #[test]
    fn growth_with_the_account_fails_whatever_the_baseline_says() {
        let growth = &GROWTHS[0];
        let mut now = costs(1_000);
        now.insert(growth.large.to_owned(), 10 * growth.percent_max + 1);
        assert!(!judge(&baseline(now.clone()), &now).1);
    }

    #[test]
    fn a_path_without_a_baseline_fails() {
        let mut known = baseline(costs(1));
        known.paths.remove(PATHS[0].name);
        assert!(!judge(&known, &costs(1)).1);
    }
}
