//! A process that commits is killed at a random moment: what it reported is
//! there, and no group is there in part.

use std::{
    collections::hash_map::RandomState,
    env,
    hash::{BuildHasher, Hasher},
    io::{BufRead, BufReader},
    path::Path,
    process::Command,
};

use luge_core::view::{Direction, Table, View, Write};
use luge_store::{Options, Store};

use crate::{folder_of_role, process_of_role, put};

const KILLS: u32 = 10;
const ROLE_COMMITTER: &str = "committer";
const COUNTER: &[u8] = b"groups";
const REPORT: &str = "committed ";
/// Written anew by each group; all must carry the same number.
const SLOTS: u8 = 24;

fn tiny() -> Options {
    Options { map_bytes: 0, ..Options::default() }
}

/// What group `number` writes: its own entries in several tables, the slots it
/// shares with all groups, the removal of an old group's entry, and the count.
fn group(number: u32) -> Vec<Write> {
    let key = number.to_be_bytes();
    let filling = [number as u8; 3000];
    let mut writes: Vec<_> = (0..SLOTS).map(|slot| put(Table::State, &[slot], &key)).collect();
    for table in [Table::Rooms, Table::Events, Table::ToDevice] {
        writes.push(put(table, &key, &[&key[..], &filling[..]].concat()));
    }
    writes.push(put(Table::Meta, COUNTER, &key));
    if let Some(old) = number.checked_sub(5) {
        let key = old.to_be_bytes().into();
        writes.push(Write { table: Table::ToDevice, key, value: None });
    }
    writes
}

fn count(view: &impl View) -> u32 {
    view.get(Table::Meta, COUNTER).map_or(0, |bytes| u32::from_be_bytes(bytes.try_into().unwrap()))
}

fn keys(view: &impl View, table: Table) -> Vec<u32> {
    let mut seen = Vec::new();
    view.scan(table, b"", b"", Direction::Forward, &mut |key, value| {
        assert_eq!(&value[..4], key);
        seen.push(u32::from_be_bytes(key.try_into().unwrap()));
        true
    });
    seen
}

/// Each group up to the count is there whole, and nothing of a later one.
fn assert_whole(folder: &Path, reported: u32) -> u32 {
    let store = Store::open(folder, &tiny()).unwrap();
    let count = store.read(|view| {
        let count = count(view);
        assert!(reported <= count, "reported {reported}, found {count}");
        let all: Vec<u32> = (1..=count).collect();
        assert_eq!(keys(view, Table::Rooms), all);
        assert_eq!(keys(view, Table::Events), all);
        assert_eq!(keys(view, Table::ToDevice), all[all.len().saturating_sub(5)..]);
        for slot in (0..SLOTS).filter(|_| count > 0) {
            assert_eq!(view.get(Table::State, &[slot]), Some(&count.to_be_bytes()[..]));
        }
        count
    });
    assert_eq!(store.stats().unwrap().damaged_entries, 0);
    count.unwrap()
}

/// The number in a line of the child; a line that the kill cut short has none.
fn reported_in(line: &str) -> Option<u32> {
    line.strip_prefix(REPORT)?.strip_suffix('.')?.parse().ok()
}

/// Starts the committer, kills it after a random number of groups and a random
/// moment more, and gives the last group that it reported.
fn run_and_kill(folder: &Path) -> u32 {
    let random = RandomState::new().build_hasher().finish();
    let executable = Command::new(env::current_exe().unwrap());
    let test = "kill::committer_reports_each_group";
    let mut child = process_of_role(executable, test, ROLE_COMMITTER, folder).spawn().unwrap();
    let lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let mut lines = lines.map(Result::unwrap);
    let mut heard: Vec<_> = lines.by_ref().take(1 + (random % 40) as usize).collect();
    for _ in 0..random >> 40 {
        std::hint::spin_loop();
    }
    child.kill().unwrap();
    let status = child.wait().unwrap();
    heard.extend(lines);
    assert!(!status.success());
    let reported = heard.iter().filter_map(|line| reported_in(line)).next_back();
    reported.unwrap_or_else(|| panic!("the child said {heard:?}"))
}

#[test]
fn groups_of_a_killed_process_are_whole_or_absent() {
    let folder = tempfile::tempdir().unwrap();
    let mut count = 0;
    for _ in 0..KILLS {
        let reported = run_and_kill(folder.path());
        assert!(count < reported, "the child began again at {reported} after {count}");
        count = assert_whole(folder.path(), reported);
    }
}

/// Plays the process that is killed; does nothing when run by itself.
#[test]
fn committer_reports_each_group() {
    let Some(folder) = folder_of_role(ROLE_COMMITTER) else { return };
    let store = Store::open(&folder, &tiny()).unwrap();
    let mut writer = store.writer().unwrap();
    let first = store.read(|view| count(view)).unwrap() + 1;
    for number in first.. {
        writer.commit(&group(number)).unwrap();
        eprintln!("{REPORT}{number}.");
    }
}
