//! What a path costs, where that was measured, and the file that keeps both.

use std::{collections::BTreeMap, fs, path::Path};

use serde::{Deserialize, Serialize};

use crate::GateError;

/// What one run of a path costs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Cost {
    /// Instructions of the program's own code: the same on every processor of
    /// one architecture, since the compiler and all crates are pinned.
    pub(crate) instructions: u64,
    /// Instructions of the C library (copying, comparing; its allocator's work is
    /// not counted) and of code that is chosen by the processor's abilities when
    /// the program runs.
    pub(crate) library: u64,
    /// How often memory was asked for.
    pub(crate) allocations: u64,
}

/// The cost of each path.
pub(crate) type Costs = BTreeMap<String, Cost>;

/// What [`Cost::library`] depends on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Environment {
    pub(crate) valgrind: String,
    pub(crate) c_library: String,
    /// The architecture, and the vector instructions that valgrind offers here.
    pub(crate) processor: String,
}

impl Environment {
    /// The architecture, on which everything depends.
    pub(crate) fn architecture(&self) -> &str {
        self.processor.split(' ').next().unwrap_or_default()
    }

    /// In one line.
    pub(crate) fn line(&self) -> String {
        format!("{}, {}, {}", self.valgrind, self.c_library, self.processor)
    }
}

/// The committed figures.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Baseline {
    /// How to read this file, for people.
    about: String,
    pub(crate) measured_with: Environment,
    pub(crate) paths: Costs,
}

impl Baseline {
    pub(crate) fn new(measured_with: Environment, paths: Costs) -> Self {
        let about = "one run of each path: its own instructions, the C library's, and how often it asks for memory; written by luge-gate --bless, and changed only by a commit that says why";
        Self { about: about.to_owned(), measured_with, paths }
    }

    pub(crate) fn read(file: &Path) -> Result<Self, GateError> {
        let what = format!("cannot read {}; make it with --bless", file.display());
        let text = fs::read(file).map_err(GateError::file(&what))?;
        Ok(serde_json::from_slice(&text)?)
    }

    pub(crate) fn write(&self, file: &Path) -> Result<(), GateError> {
        let mut text = serde_json::to_string_pretty(self)?;
        text.push('\n');
        fs::write(file, text).map_err(GateError::file(&format!("cannot write {}", file.display())))
    }
}
