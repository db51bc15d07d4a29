//! matrix-js-sdk in a Node.js process, driven by lines of JSON: commands in, answers and events out.

use std::process::Stdio;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, AsyncWriteExt, BufReader, Lines};
use tokio::process::{Child, ChildStdin, ChildStdout, Command};

use super::{install, within};
use crate::harness::stack::Folder;

/// A client of the kind that Element Web is.
#[derive(Debug)]
pub struct NodeClient {
    _child: Child,
    input: ChildStdin,
    output: Lines<BufReader<ChildStdout>>,
    events: Vec<Value>,
    commands: u64,
    folder: Folder,
}

impl NodeClient {
    /// Starts a process that has not logged in yet.
    pub async fn start() -> Result<Self> {
        let installation = tokio::task::spawn_blocking(install::node).await??;
        let folder = Folder::new("js")?;
        let log = std::fs::File::create(folder.path().join("js.log"))?;
        let mut child = Command::new(installation.node)
            .arg(installation.driver)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(log)
            .kill_on_drop(true)
            .spawn()
            .context("cannot start node")?;
        let input = child.stdin.take().context("node has no input")?;
        let output = child.stdout.take().context("node has no output")?;
        Ok(Self {
            _child: child,
            input,
            output: BufReader::new(output).lines(),
            events: Vec::new(),
            commands: 0,
            folder,
        })
    }

    /// Runs a command of the driver and gives its result.
    pub async fn call(&mut self, command: &str, arguments: Value) -> Result<Value> {
        self.commands += 1;
        let id = self.commands;
        let line = json!({ "id": id, "command": command, "arguments": arguments });
        self.input.write_all(format!("{line}\n").as_bytes()).await?;
        let answer = within(&format!("the js client to {command}"), async {
            loop {
                let line = self.line().await?;
                if line["id"] == id {
                    return Ok(line);
                }
                self.events.push(line);
            }
        })
        .await
        .with_context(|| self.log_tail())?;
        if let Some(error) = answer["error"].as_str() {
            bail!("the js client failed to {command}: {error}\n{}", self.log_tail());
        }
        Ok(answer["result"].clone())
    }

    /// Waits for an event of the client for which `wanted` gives something; events that came before
    /// count too.
    pub async fn event<T>(
        &mut self,
        awaited: &str,
        mut wanted: impl FnMut(&Value) -> Option<T>,
    ) -> Result<T> {
        if let Some(found) = self.events.iter().find_map(&mut wanted) {
            return Ok(found);
        }
        let found = within(awaited, async {
            loop {
                let line = self.line().await?;
                let found = wanted(&line);
                self.events.push(line);
                if let Some(found) = found {
                    return Ok(found);
                }
            }
        })
        .await;
        found.with_context(|| {
            let events: Vec<String> = self.events.iter().map(Value::to_string).collect();
            format!("events so far:\n{}\nlog:\n{}", events.join("\n"), self.log_tail())
        })
    }

    /// All the events so far.
    pub fn events(&self) -> &[Value] {
        &self.events
    }

    async fn line(&mut self) -> Result<Value> {
        let line = self.output.next_line().await?.context("the js client has ended")?;
        serde_json::from_str(&line).with_context(|| format!("not JSON: {line}"))
    }

    fn log_tail(&self) -> String {
        let log = std::fs::read(self.folder.path().join("js.log")).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(60)..].join("\n")
    }
}
