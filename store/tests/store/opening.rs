//! Who may open a folder, and what is said to those who may not.

use std::{
    env, fs,
    io::{BufRead, BufReader},
    process::Command,
};

use luge_core::view::{Table, View};
use luge_store::{OpenError, Options, Store};

use crate::{folder_of_role, process_of_role, put};

const ROLE_HOLDER: &str = "holder";

#[test]
fn folder_opens_once_in_a_process_and_again_after_closing() {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(folder.path(), &Options::default()).unwrap();
    store.writer().unwrap().commit(&[put(Table::Rooms, b"key", b"value")]).unwrap();
    let clone = store.clone();
    for _ in 0..2 {
        let error = Store::open(folder.path(), &Options::default()).unwrap_err();
        let expected = std::process::id().to_string();
        assert!(
            matches!(&error, OpenError::InUse { holder, .. } if *holder == expected),
            "{error}"
        );
        assert!(error.to_string().contains("folder of its own"), "{error}");
        drop(store.clone());
    }
    drop((store, clone));
    let store = Store::open(folder.path(), &Options::default()).unwrap();
    let read = store.read(|view| view.get(Table::Rooms, b"key").map(<[u8]>::to_vec));
    assert_eq!(read.unwrap().as_deref(), Some(b"value".as_slice()));
}

#[test]
fn folder_of_another_process_is_refused_until_it_is_killed_amid_a_read() {
    let folder = tempfile::tempdir().unwrap();
    let executable = Command::new(env::current_exe().unwrap());
    let test = "opening::holder_reads_for_ever";
    let mut child = process_of_role(executable, test, ROLE_HOLDER, folder.path()).spawn().unwrap();
    let mut line = String::new();
    BufReader::new(child.stderr.as_mut().unwrap()).read_line(&mut line).unwrap();
    let refused = Store::open(folder.path(), &Options::default()).map(drop);
    let holder_of_lock = child.id().to_string();
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(line, "reading\n");
    let error = refused.unwrap_err();
    assert!(
        matches!(&error, OpenError::InUse { holder, .. } if *holder == holder_of_lock),
        "{error}"
    );

    // The dead reader must not keep pages from being used again: a small map
    // that cannot grow takes many times its size.
    let options = Options { map_bytes: 0, map_bytes_max: 2 << 20, ..Options::default() };
    let store = Store::open(folder.path(), &options).unwrap();
    let mut writer = store.writer().unwrap();
    for _ in 0..50 {
        writer.commit(&[put(Table::Events, b"same", &vec![1; 200_000])]).unwrap();
    }
}

/// Plays the process that holds the folder; does nothing when run by itself.
#[test]
fn holder_reads_for_ever() {
    let Some(folder) = folder_of_role(ROLE_HOLDER) else { return };
    let store = Store::open(&folder, &Options { map_bytes: 0, ..Options::default() }).unwrap();
    store
        .read(|_| {
            eprintln!("reading");
            loop {
                std::thread::park();
            }
        })
        .unwrap();
}

#[test]
fn file_in_the_folders_place_is_named() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("file");
    fs::write(&file, b"something else").unwrap();
    for path in [file.clone(), file.join("below")] {
        let error = Store::open(&path, &Options::default()).unwrap_err();
        assert!(matches!(error, OpenError::NotADirectory { .. }), "{error:?}");
    }
    assert_eq!(fs::read(&file).unwrap(), b"something else");
}

#[test]
fn file_that_is_no_database_is_refused_and_left_alone() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("data.mdb");
    let content = vec![0x5a; 64 << 10];
    fs::write(&file, &content).unwrap();
    let error = Store::open(folder.path(), &Options::default()).unwrap_err();
    assert!(matches!(error, OpenError::NotADatabase { .. }), "{error:?}");
    assert!(error.to_string().contains("restore"), "{error}");
    assert!(fs::read(&file).unwrap() == content);
}

#[test]
fn folder_without_permission_is_refused_with_advice() {
    // A path that not even root may create a folder under.
    let error = Store::open("/proc/luge".as_ref(), &Options::default()).unwrap_err();
    let named = matches!(
        error,
        OpenError::Permission { .. } | OpenError::Io { .. } | OpenError::ReadOnly { .. }
    );
    assert!(named, "{error:?}");
}
