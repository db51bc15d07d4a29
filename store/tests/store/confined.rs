//! The store in a process that the system gives little: too small a file size,
//! too little address space. The limits are the shell's, set for a process of
//! its own.

use std::{env, path::Path, process::Command};

use luge_core::view::{Table, View};
use luge_store::{CommitError, OpenError, Options, ReadError, Store};

use crate::{folder_of_role, process_of_role, put};

const ROLE_FILE_SIZE: &str = "file-size";
const ROLE_GROWTH: &str = "growth";
const ROLE_OPENING: &str = "opening";

/// Runs `test` in a process of its own after the shell's `limits`.
fn assert_passes(limits: &str, test: &str, role: &str, folder: &Path) {
    let mut shell = Command::new("sh");
    shell.args(["-c", &format!("{limits}; exec \"$0\" \"$@\"")]).arg(env::current_exe().unwrap());
    let output = process_of_role(shell, test, role, folder).output().unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{:?}: {said}", output.status);
    assert!(said.contains("played to the end"), "{said}");
}

#[test]
fn disk_that_takes_no_more_is_reported_and_commits_go_on_later() {
    let folder = tempfile::tempdir().unwrap();
    // Ignoring the signal turns the limit into an error of the write.
    let limits = "trap '' XFSZ; ulimit -f 2000";
    assert_passes(limits, "confined::file_size_is_limited", ROLE_FILE_SIZE, folder.path());
    let store = Store::open(folder.path(), &Options::default()).unwrap();
    store
        .read(|view| {
            assert!(view.get(Table::Rooms, b"before").is_some());
            assert!(view.get(Table::Rooms, b"during").is_none());
            assert!(view.get(Table::Rooms, b"after").is_some());
        })
        .unwrap();
}

/// Plays the process with a full disk; does nothing when run by itself.
#[test]
fn file_size_is_limited() {
    let Some(folder) = folder_of_role(ROLE_FILE_SIZE) else { return };
    let store = Store::open(&folder, &Options::default()).unwrap();
    let mut writer = store.writer().unwrap();
    writer.commit(&[put(Table::Rooms, b"before", b"value")]).unwrap();
    let large = vec![1; 8 << 20];
    let group = [put(Table::Rooms, b"during", b"value"), put(Table::Events, b"large", &large)];
    for _ in 0..3 {
        let error = writer.commit(&group).unwrap_err();
        let of_disk =
            matches!(error, CommitError::DiskFull { .. } | CommitError::DiskFailed { .. });
        assert!(of_disk && error.is_transient(), "{error:?}");
        assert!(store.read(|view| view.get(Table::Rooms, b"before").is_some()).unwrap());
    }
    writer.commit(&[put(Table::Rooms, b"after", b"value")]).unwrap();
    eprintln!("played to the end");
}

#[test]
fn map_that_cannot_grow_ends_in_errors_and_not_in_a_crash() {
    let folder = tempfile::tempdir().unwrap();
    let test = "confined::address_space_ends_while_growing";
    assert_passes("ulimit -v 1000000", test, ROLE_GROWTH, folder.path());
    let store = Store::open(folder.path(), &Options::default()).unwrap();
    assert!(store.read(|view| view.get(Table::Rooms, b"before").is_some()).unwrap());
    assert!(store.read(|view| view.get(Table::Rooms, b"during").is_none()).unwrap());
}

/// Plays the process with little address space; does nothing when run by itself.
#[test]
fn address_space_ends_while_growing() {
    let Some(folder) = folder_of_role(ROLE_GROWTH) else { return };
    let options = Options { map_bytes: 0, ..Options::default() };
    let store = Store::open(&folder, &options).unwrap();
    let mut writer = store.writer().unwrap();
    writer.commit(&[put(Table::Rooms, b"before", b"value")]).unwrap();
    // Nearly all of the address space goes elsewhere; what is left is too
    // little for a map of 64 MiB.
    let mut elsewhere: Vec<Vec<u8>> = Vec::with_capacity(1 << 10);
    loop {
        let mut chunk = Vec::new();
        if chunk.try_reserve_exact(8 << 20).is_err() {
            break;
        }
        elsewhere.push(chunk);
    }
    elsewhere.truncate(elsewhere.len() - 4);
    let large = vec![1; 4 << 20];
    let mut commits =
        (0..=u8::MAX).map(|number| writer.commit(&[put(Table::Events, &[number], &large)]));
    let error = commits.find_map(Result::err).unwrap();
    assert!(matches!(error, CommitError::Unmapped), "{error:?}");
    let again = writer.commit(&[put(Table::Rooms, b"during", b"value")]);
    assert!(matches!(again, Err(CommitError::Unmapped)), "{again:?}");
    assert!(matches!(store.read(|_| ()), Err(ReadError::Unmapped)));
    assert!(matches!(store.stats(), Err(ReadError::Unmapped)));
    drop((writer, store));
    eprintln!("played to the end");
}

#[test]
fn opening_takes_a_smaller_map_where_the_large_one_is_not_granted() {
    let folder = tempfile::tempdir().unwrap();
    let test = "confined::address_space_is_limited";
    assert_passes("ulimit -v 1000000", test, ROLE_OPENING, folder.path());
}

/// Plays the process with little address space; does nothing when run by itself.
#[test]
fn address_space_is_limited() {
    let Some(folder) = folder_of_role(ROLE_OPENING) else { return };
    let store = Store::open(&folder, &Options::default()).unwrap();
    let map_bytes = store.stats().unwrap().map_bytes;
    assert!((1 << 20..1 << 30).contains(&map_bytes), "{map_bytes}");
    drop(store);
    let file = std::fs::File::options().write(true).open(folder.join("data.mdb")).unwrap();
    file.set_len(4 << 30).unwrap();
    let error = Store::open(&folder, &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::AddressSpace { .. }), "{error:?}");
    eprintln!("played to the end");
}
