//! The table of rules names only tests that there are, and no rule without one.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

/// Where each suite that the table may name has its tests.
const SUITES: [(&str, &[&str]); 16] = [
    ("simplified", &["core/tests/simplified"]),
    ("v4", &["core/tests/v4"]),
    ("msc3575", &["core/tests/msc3575"]),
    ("sim", &["core/tests/sim"]),
    ("replay", &["core/tests/replay"]),
    ("leak", &["core/tests/leak"]),
    ("ledger", &["core/tests/ledger"]),
    ("upstream", &["core/tests/upstream.rs", "core/tests/upstream_properties.rs"]),
    ("unit", &["core/src"]),
    ("store", &["store/src", "store/tests"]),
    ("wire", &["io/src", "io/tests"]),
    ("server", &["server/src"]),
    ("front", &["server/tests/front"]),
    ("faults", &["server/tests/faults"]),
    ("scale", &["server/tests/scale"]),
    ("e2e", &["e2e/tests"]),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn table() -> String {
    fs::read_to_string(root().join("docs/conformance.md")).expect("the table is there")
}

/// The names of the tests in a Rust file, or in all below a folder.
fn tests(path: &Path, names: &mut BTreeSet<String>) {
    for entry in fs::read_dir(path).into_iter().flatten().flatten() {
        tests(&entry.path(), names);
    }
    if path.extension().is_some_and(|it| it == "rs") {
        tests_of(&fs::read_to_string(path).unwrap_or_default(), names);
    }
}

/// The functions under an attribute that makes them tests.
fn tests_of(text: &str, names: &mut BTreeSet<String>) {
    let mut is_test = false;
    for line in text.lines().map(str::trim_start) {
        is_test |= line.starts_with("#[test]") || line.starts_with("#[tokio::test");
        if line.starts_with('#') || line.starts_with("//") {
            continue;
        }
        if let Some((_, after)) = line.split_once("fn ").filter(|_| is_test) {
            let is_part = |at: &char| at.is_ascii_alphanumeric() || *at == '_';
            names.insert(after.chars().take_while(is_part).collect());
        }
        is_test &= line.is_empty() || !line.contains("fn ");
    }
}

/// What is quoted as `suite: test` in a text.
fn references(text: &str) -> impl Iterator<Item = (&str, &str)> {
    let is_word = |word: &str, signs: &[u8]| {
        let is_part =
            |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || signs.contains(&byte);
        !word.is_empty() && word.bytes().all(is_part)
    };
    let quoted = text.split('`').skip(1).step_by(2);
    quoted
        .filter_map(|quoted| quoted.split_once(": "))
        .filter(move |(suite, test)| is_word(suite, b"") && is_word(test, b"_"))
}

/// The lines of tables, less their heads, that have no test: those of a table
/// with a column for tests, and those of another where nothing that is said
/// before it in its section names one. And how many lines there are in all.
fn unproven(page: &str) -> (Vec<String>, usize) {
    let lines: Vec<&str> = page.lines().collect();
    let is_rule = |at: usize| lines.get(at).is_some_and(|line| line.starts_with("| -"));
    let (mut section_has_test, mut table_has_column) = (false, false);
    let (mut unproven, mut count) = (Vec::new(), 0);
    for (at, line) in lines.iter().enumerate() {
        let has_test = references(line).next().is_some();
        if line.starts_with("## ") {
            section_has_test = false;
        } else if !line.starts_with('|') {
            section_has_test |= has_test;
        } else if is_rule(at + 1) {
            table_has_column = line.contains("Tests");
        } else if !is_rule(at) {
            count += 1;
            if !has_test && (table_has_column || !section_has_test) {
                unproven.push(format!("{}: {line}", at + 1));
            }
        }
    }
    (unproven, count)
}

/// Goal: no rule is said to be proven by a test that is not there.
#[test]
fn every_named_test_exists() {
    let mut suites: BTreeMap<&str, BTreeSet<String>> = BTreeMap::new();
    for (suite, paths) in SUITES {
        let names = suites.entry(suite).or_default();
        paths.iter().for_each(|path| tests(&root().join(path), names));
        assert!(!names.is_empty(), "{suite} has tests");
    }
    let mut missing = Vec::new();
    for (suite, test) in references(&table()) {
        if !suites.get(suite).is_some_and(|names| names.contains(test)) {
            missing.push(format!("{suite}: {test}"));
        }
    }
    assert!(missing.is_empty(), "these are no tests: {missing:#?}");
}

/// Goal: no rule stands in a table without a test that proves it.
#[test]
fn every_row_names_a_test() {
    let (unproven, count) = unproven(&table());
    assert!(unproven.is_empty(), "these rules have no test: {unproven:#?}");
    assert!(count > 200, "the tables have rows");
}

/// Goal: what holds the page to account sees what is wrong with one.
#[test]
fn helpers_of_a_test_are_no_tests_and_rows_without_one_are_seen() {
    let text = "#[test]\n#[ignore]\n/// x\nfn one() {}\nfn helper() {}\n\
                #[tokio::test(a)]\nasync fn two() {}\n";
    let mut names = BTreeSet::new();
    tests_of(text, &mut names);
    assert_eq!(names.into_iter().collect::<Vec<_>>(), ["one", "two"]);
    let page = "## A\n\n| Rule | Tests |\n| --- | --- |\n| a | `unit: one` |\n| b | `M_X` |\n\n\
                ## B\n\n`unit: one`\n\n| Where | Why |\n| --- | --- |\n| c | d |\n\n\
                ## C\n\n| Where | Why |\n| --- | --- |\n| e | f |\n";
    let (unproven, count) = unproven(page);
    assert_eq!((unproven, count), (vec!["6: | b | `M_X` |".into(), "20: | e | f |".into()], 4));
}
