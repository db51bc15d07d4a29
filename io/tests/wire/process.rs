//! What ends the whole process. Each test runs one of its own companions in a process of its own.

use std::{
    env,
    io::{BufRead, BufReader},
    process::{Child, Command, Stdio},
    sync::mpsc,
};

use luge_io::{driver::Driver, shards, signal};

const CHILD: &str = "LUGE_IO_TEST_CHILD";

fn child(name: &str) -> Child {
    Command::new(env::current_exe().unwrap())
        .args([name, "--exact", "--nocapture"])
        .env(CHILD, "1")
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap()
}

fn is_child() -> bool {
    env::var_os(CHILD).is_some()
}

/// Companion: one shard panics, the other would run for ever.
#[test]
fn companion_whose_shard_panics() {
    if !is_child() {
        return;
    }
    let config = shards::Config { count: 2, ..shards::Config::new(Driver::Epoll) };
    let running = shards::start(&config, |_| {
        |context: shards::ShardContext| async move {
            assert_ne!(context.index, 1, "as the test wants");
            std::future::pending::<()>().await;
        }
    });
    running.unwrap().join();
}

#[test]
fn panic_of_one_shard_ends_the_process() {
    let output = child("process::companion_whose_shard_panics").wait_with_output().unwrap();
    assert!(!output.status.success());
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(said.contains("shard-1") && said.contains("as the test wants"), "{said}");
}

/// Companion: says when it is ready and when it is asked to end, and goes on regardless.
#[test]
fn companion_that_waits_for_signals() {
    if !is_child() {
        return;
    }
    let (asked, was_asked) = mpsc::channel();
    signal::on_termination(move || asked.send(()).unwrap()).unwrap();
    println!("\nready");
    was_asked.recv().unwrap();
    println!("asked to end");
    loop {
        std::thread::park();
    }
}

#[test]
fn first_signal_asks_and_the_second_ends_at_once() {
    let mut child = child("process::companion_that_waits_for_signals");
    let pid = rustix::process::Pid::from_child(&child);
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines().map(Result::unwrap);
    for (word, signal) in
        [("ready", rustix::process::Signal::TERM), ("asked to end", rustix::process::Signal::INT)]
    {
        assert!(lines.any(|line| line == word));
        rustix::process::kill_process(pid, signal).unwrap();
    }
    assert_eq!(child.wait().unwrap().code(), Some(128 + 2));
}
