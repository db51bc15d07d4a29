//! Running the paths under callgrind, and reading what it wrote.
//!
//! What a figure means is [`Cost`]'s; what is too much is `judge`'s.

use std::{
    collections::BTreeMap,
    env, fs,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use crate::{
    GateError, MEASURE,
    cost::{Cost, Costs, Environment},
    selected,
};

/// Functions of the C library that hand out memory.
const ALLOCATING: [&str; 6] =
    ["malloc", "calloc", "realloc", "aligned_alloc", "posix_memalign", "memalign"];
/// How the names of its allocator's functions begin. What they cost depends on
/// all that was allocated before, by other paths too, so that it is no figure.
const ALLOCATOR: [&str; 20] = [
    "malloc",
    "calloc",
    "realloc",
    "free",
    "cfree",
    "aligned_alloc",
    "posix_memalign",
    "memalign",
    "_mid_memalign",
    "_int_",
    "unlink_chunk",
    "sysmalloc",
    "systrim",
    "tcache_",
    "ptmalloc",
    "arena_",
    "brk",
    "sbrk",
    "mremap",
    "munmap",
];
/// Crates that choose among several versions of their code when the program
/// runs, by what the processor can do.
const CHOOSING: [&str; 2] = ["memchr::", "simdutf8::"];

/// valgrind's version; `None` where it is not installed.
pub(crate) fn version() -> Option<String> {
    first_line("valgrind", &["--version"])
}

fn first_line(program: &str, arguments: &[&str]) -> Option<String> {
    let output = Command::new(program).args(arguments).stderr(Stdio::null()).output().ok()?;
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().next()?.trim();
    (output.status.success() && !line.is_empty()).then(|| line.to_owned())
}

/// What a path's library share depends on, beside the code. `processor` is the
/// one that the measured program saw.
fn environment(valgrind: String, processor: String) -> Environment {
    let c_library = first_line("getconf", &["GNU_LIBC_VERSION"]);
    Environment { valgrind, c_library: c_library.unwrap_or_else(|| "unknown".into()), processor }
}

/// A folder that is removed with everything in it, unless it is kept.
struct Folder {
    path: PathBuf,
    keep: bool,
}

impl Drop for Folder {
    fn drop(&mut self) {
        if !self.keep {
            // What is left there is in nobody's way.
            drop(fs::remove_dir_all(&self.path));
        }
    }
}

/// Runs every path under callgrind.
#[expect(clippy::print_stderr, reason = "where the files are is for people")]
pub(crate) fn count(
    valgrind: String,
    only: &str,
    keep: bool,
) -> Result<(Environment, Costs), GateError> {
    let program = env::current_exe().map_err(GateError::file("the gate cannot find itself"))?;
    let path = env::temp_dir().join(format!("luge-gate-{}", std::process::id()));
    fs::create_dir_all(&path).map_err(GateError::file("cannot make a temporary folder"))?;
    let folder = Folder { path, keep };
    let stem = folder.path.join("counts");
    let output = Command::new("valgrind")
        .arg("--tool=callgrind")
        .arg(format!("--callgrind-out-file={}", stem.display()))
        // Not with `--toggle-collect`: calls that were made while it is off are
        // counted with the next part.
        .args(["--dump-before=*::counted*", "--dump-line=no"])
        .arg(&program)
        .args([MEASURE, only])
        .stdin(Stdio::null())
        .output()
        .map_err(GateError::file("valgrind does not start"))?;
    if keep {
        eprintln!("gate: callgrind's files are in {}", folder.path.display());
    }
    if !output.status.success() {
        let words = String::from_utf8_lossy(&output.stderr);
        let words: Vec<&str> = words.lines().collect();
        let words = words[words.len().saturating_sub(20)..].join("\n");
        return Err(GateError::Callgrind { status: output.status.to_string(), words });
    }
    let processor = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    let costs = read(&stem, only, &program)?;
    Ok((environment(valgrind, processor), costs))
}

/// Every second file is of a run; those between are of what prepared it.
fn read(stem: &Path, only: &str, program: &Path) -> Result<Costs, GateError> {
    let (stem, program) = (stem.display(), program.to_string_lossy());
    let mut costs = BTreeMap::new();
    let paths: Vec<_> = selected(only).collect();
    for (index, path) in paths.iter().enumerate() {
        let file = format!("{stem}.{}", (index + 1) * 2);
        let what = format!("callgrind left no figures of {:?}", path.name);
        let text = fs::read(&file).map_err(GateError::file(&what))?;
        let cost = cost(&String::from_utf8_lossy(&text), &program)
            .map_err(|reason| GateError::Figures { path: path.name, reason })?;
        costs.insert(path.name.to_owned(), cost);
    }
    if fs::exists(format!("{stem}.{}", paths.len() * 2 + 1)).unwrap_or(false) {
        return Err(GateError::Runs { wanted: paths.len() });
    }
    Ok(costs)
}

/// What one of callgrind's files says of the run that it is of.
///
/// A line `fn=` begins a function, lines of a position and a number are its own
/// cost; after `calls=` comes one that is the callee's and counts there. Names
/// are given once, as `(4) name`, and are `(4)` from then on.
///
/// # Errors
/// What about the file is not as expected: no figure is better than a wrong one.
fn cost(text: &str, program: &str) -> Result<Cost, String> {
    let mut reading = Reading { program, ..Reading::default() };
    let mut total = None;
    for line in text.lines() {
        if let Some(sum) = line.strip_prefix("totals:").or(line.strip_prefix("summary:")) {
            total = Some(sum.trim().parse::<u64>().map_err(|_| format!("a sum of {sum:?}"))?);
        } else if line.starts_with(|first: char| first.is_ascii_digit() || "+-*".contains(first)) {
            reading.cost_line(line)?;
        } else if let Some((key, value)) = line.split_once('=') {
            reading.key(key, value)?;
        }
    }
    let total = total.ok_or("no sum")?;
    let cost = reading.cost;
    let found = cost.instructions + cost.library + reading.allocator;
    if found != total {
        return Err(format!("its lines add up to {found}, its sum is {total}"));
    }
    let library = cost.library.checked_sub(reading.copied);
    Ok(Cost { library: library.ok_or("calls that cost more than was called")?, ..cost })
}

#[derive(Default)]
struct Reading<'a> {
    program: &'a str,
    cost: Cost,
    allocator: u64,
    /// Of the library's, what the allocator called.
    copied: u64,
    objects: BTreeMap<&'a str, &'a str>,
    functions: BTreeMap<&'a str, &'a str>,
    object: &'a str,
    function: &'a str,
    called: &'a str,
    /// The next line of cost is the callee's.
    after_calls: bool,
}

impl<'a> Reading<'a> {
    fn key(&mut self, key: &str, value: &'a str) -> Result<(), String> {
        match key {
            "ob" => self.object = name(&mut self.objects, value)?,
            "cob" => drop(name(&mut self.objects, value)?),
            "fn" => self.function = name(&mut self.functions, value)?,
            "cfn" => self.called = name(&mut self.functions, value)?,
            "calls" => {
                let calls = value.split(' ').next().and_then(|calls| calls.parse::<u64>().ok());
                let calls = calls.ok_or_else(|| format!("calls of {value:?}"))?;
                self.after_calls = true;
                if self.object == self.program && ALLOCATING.contains(&self.called) {
                    self.cost.allocations += calls;
                }
            }
            // Of files nothing is asked.
            _ => {}
        }
        Ok(())
    }

    fn cost_line(&mut self, line: &str) -> Result<(), String> {
        let cost = line.split(' ').nth(1).map_or(Some(0), |cost| cost.parse::<u64>().ok());
        let cost = cost.ok_or_else(|| format!("a cost of {line:?}"))?;
        let is_own = self.object == self.program;
        let is_allocator = |function: &str| ALLOCATOR.iter().any(|of| function.starts_with(of));
        if std::mem::take(&mut self.after_calls) {
            // What a `realloc` copies is its own work: whether it has to is up to
            // what lies beside.
            if !is_own && is_allocator(self.function) && !is_allocator(self.called) {
                self.copied += cost;
            }
            return Ok(());
        }
        let chosen =
            CHOOSING.iter().any(|of| self.function.trim_start_matches('<').starts_with(of));
        if is_own && !chosen {
            self.cost.instructions += cost;
        } else if !is_own && is_allocator(self.function) {
            self.allocator += cost;
        } else {
            self.cost.library += cost;
        }
        Ok(())
    }
}

/// The name that `value` gives or refers to.
fn name<'a>(names: &mut BTreeMap<&'a str, &'a str>, value: &'a str) -> Result<&'a str, String> {
    match value.split_once(' ') {
        Some((number, name)) => {
            names.insert(number, name);
            Ok(name)
        }
        None => names.get(value).copied().ok_or_else(|| format!("an unknown name {value:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = "\
# callgrind format
positions: line
events: Ir
summary: 1800

ob=(1) /bin/gate
fl=(1) src/lib.rs
fn=(3) luge_core::turn
0 1000
cob=(2) /lib/libc.so.6
cfi=(2) malloc.c
cfn=(4) malloc
calls=3 0
0 300
cfn=(5) memchr::arch::find
calls=1 0
0 10

fn=(5)
0 10

ob=(2)
fn=(4)
0 300
cfn=(4)
calls=7 0
0 90
cfn=(6) __memcpy_avx
calls=1 0
0 40
+3 400
fn=(6)
* 90

totals: 1800
";

    /// Goal: the program's own instructions, those of libraries and of code that
    /// is chosen by the processor, and allocations, each counted once; the
    /// allocator's own work not at all.
    #[test]
    fn a_file_tells_whose_instructions_they_are_and_how_often_memory_was_asked_for() {
        let cost = cost(FILE, "/bin/gate").unwrap();
        assert_eq!(cost, Cost { instructions: 1_000, library: 60, allocations: 3 });
    }

    #[test]
    fn a_file_that_does_not_add_up_is_refused() {
        let broken = FILE.replace("+3 400", "+3 401");
        assert!(cost(&broken, "/bin/gate").unwrap_err().contains("add up to 1801"));
        assert!(cost(&FILE.replace("fn=(4)\n0 300", "fn=(9)\n0 300"), "/bin/gate").is_err());
        assert!(cost("events: Ir\n", "/bin/gate").is_err());
    }
}
