//! The program itself, as a script would start it: its exit status, its output, its end.

use std::{
    io::{BufRead, BufReader, Read},
    process::{Child, ChildStdout, Command, Output, Stdio},
    sync::mpsc,
    thread,
};

use http::Request;
use luge_io::http::Body;

use crate::setup::{BYTES_MAX, PATIENCE, client, on_one_driver};

const SYNC: &str = "/_matrix/client/unstable/org.matrix.simplified_msc3575/sync";

fn luge(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_luge"));
    command.args(arguments).env_remove("LUGE_LOG").stdin(Stdio::null());
    command
}

fn run(arguments: &[&str]) -> Output {
    luge(arguments).output().unwrap()
}

/// A started program, ended with the test whatever becomes of it.
struct Program {
    child: Child,
    output: Option<BufReader<ChildStdout>>,
}

impl Program {
    fn start(command: &mut Command) -> Self {
        let piped = command.stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = piped.spawn().unwrap();
        let output = BufReader::new(child.stdout.take().unwrap());
        Self { child, output: Some(output) }
    }

    /// The next line of its output.
    fn line(&mut self) -> String {
        let mut line = String::new();
        self.output.as_mut().unwrap().read_line(&mut line).unwrap();
        line
    }

    /// Asks it to end, waits until it has, and returns its exit status, the rest of its output and
    /// its log.
    fn terminate(mut self) -> (Option<i32>, String, String) {
        let kill = format!("kill -TERM {}", self.child.id());
        assert!(Command::new("sh").args(["-c", &kill]).status().unwrap().success());
        let (mut output, mut errors) =
            (self.output.take().unwrap(), self.child.stderr.take().unwrap());
        let (report, reported) = mpsc::channel();
        let reader = thread::spawn(move || {
            let (mut rest, mut log) = (String::new(), String::new());
            output.read_to_string(&mut rest).unwrap();
            errors.read_to_string(&mut log).unwrap();
            report.send((rest, log)).unwrap();
        });
        let (rest, log) = reported.recv_timeout(PATIENCE).expect("the program ends when asked to");
        reader.join().unwrap();
        (self.child.wait().unwrap().code(), rest, log)
    }
}

impl Drop for Program {
    fn drop(&mut self) {
        // Refused only if it has ended, as it should have.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

#[test]
fn wrong_command_line_is_status_2_and_a_failed_start_status_1() {
    let wrong = run(&["serve", "--homeserver", "hs", "--data", "x"]);
    assert_eq!(wrong.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("did you mean http://hs?"));
    assert_eq!(run(&[]).status.code(), Some(2));
    assert_eq!(run(&["--help"]).status.code(), Some(0));
    let folder = tempfile::tempdir().unwrap();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let data = folder.path().join("data");
    let homeserver = format!("http://{address}");
    let arguments = ["serve", "--homeserver", &homeserver, "--listen", &address, "--data"];
    let failed = luge(&arguments).arg(&data).output().unwrap();
    assert_eq!(failed.status.code(), Some(1));
    let said = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(said.contains("luge: cannot listen on"), "{said}");
    assert!(failed.stdout.is_empty());
}

#[test]
fn serve_says_where_it_listens_and_ends_in_order() {
    let folder = tempfile::tempdir().unwrap();
    let ready = folder.path().join("ready");
    let mut command = luge(&["serve", "--homeserver=http://127.0.0.1:9", "--listen=127.0.0.1:0"]);
    command.arg("--data").arg(folder.path().join("data")).arg("--ready-file").arg(&ready);
    let mut program = Program::start(&mut command);
    let line = program.line();
    let url = line.trim_end().strip_prefix("luge: listening on ").unwrap();
    assert!(url.starts_with("http://127.0.0.1:"), "{line}");
    assert_eq!(std::fs::read_to_string(&ready).unwrap().trim_end(), url);
    let (status, rest, log) = program.terminate();
    assert_eq!((status, rest.as_str()), (Some(0), ""), "{log}");
}

/// One line on standard output, users who can sync, and nothing left behind.
#[test]
fn demo_prints_json_serves_its_users_and_removes_its_data() {
    let temporary = tempfile::tempdir().unwrap();
    let arguments =
        ["demo", "--json", "--listen=127.0.0.1:0", "--rooms=12", "--users=3", "--seed=5"];
    let mut program = Program::start(luge(&arguments).env("TMPDIR", temporary.path()));
    let line = program.line();
    let said: serde_json::Value = serde_json::from_str(&line).unwrap();
    let users = said["users"].as_array().unwrap();
    assert_eq!(users.len(), 3);
    on_one_driver(async {
        let client = client();
        for user in users {
            let token = user["access_token"].as_str().unwrap();
            let body = r#"{"lists":{"all":{"ranges":[[0,19]],"timeline_limit":1,
                "required_state":[]}}}"#;
            let request = Request::post(format!("{}{SYNC}", said["url"].as_str().unwrap()))
                .header("authorization", format!("Bearer {token}"))
                .body(Body::from(body))
                .unwrap();
            let answer = client.send(request).await.unwrap();
            assert_eq!(answer.status(), 200, "{user}");
            let body = answer.into_body().read_limited(BYTES_MAX).await.unwrap();
            let body: serde_json::Value = serde_json::from_slice(&body).unwrap();
            let rooms = body["rooms"].as_object().unwrap();
            assert_eq!(body["lists"]["all"]["count"], rooms.len(), "{user}");
        }
    });
    let (status, rest, log) = program.terminate();
    assert_eq!((status, rest.as_str()), (Some(0), ""), "{log}");
    assert!(!log.contains(" INFO "), "{log}");
    assert_eq!(std::fs::read_dir(temporary.path()).unwrap().count(), 0);
}
