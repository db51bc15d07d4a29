//! The table of rules names only tests that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::Path,
};

/// The names of all functions in the Rust files below `folder`.
fn functions(folder: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            functions(&path, names);
        } else if path.extension().is_some_and(|it| it == "rs") {
            let text = fs::read_to_string(&path).unwrap_or_default();
            let after = text.split("fn ").skip(1);
            let is_part = |at: char| at.is_ascii_alphanumeric() || at == '_';
            names.extend(after.map(|it| it.chars().take_while(|at| is_part(*at)).collect()));
        }
    }
}

/// Goal: no rule is said to be proven by a test that is not there.
#[test]
fn every_named_test_exists() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let table = fs::read_to_string(root.join("docs/conformance.md")).expect("the table is there");
    let mut suites: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (suite, folders) in [
        ("simplified", &["core/tests/simplified"][..]),
        ("v4", &["core/tests/v4"]),
        ("msc3575", &["core/tests/msc3575"]),
        ("sim", &["core/tests/sim"]),
        ("replay", &["core/tests/replay"]),
        ("unit", &["core/src"]),
        ("faults", &["server/tests/faults"]),
        ("front", &["server/tests/front"]),
        ("server", &["server/src"]),
        ("e2e", &["e2e/tests"]),
    ] {
        let names = suites.entry(suite).or_default();
        folders.iter().for_each(|folder| functions(&root.join(folder), names));
    }
    let mut named = 0;
    for quoted in table.split('`').skip(1).step_by(2) {
        let Some((suite, test)) = quoted.split_once(": ") else { continue };
        let Some(names) = suites.get(suite) else { continue };
        assert!(names.contains(test), "{quoted} is no test");
        named += 1;
    }
    assert!(named > 100, "the table names tests: {named}");
}
