//! A real homeserver: Synapse from the package index, with SQLite, for one test or one test binary.

use std::fs;
use std::io::{Read, Write};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};

use super::install;
use super::process::{Process, free_port};

/// Python that runs Synapse until it is told to stop, or until its standard input ends: a test that
/// was killed cannot leave a homeserver behind.
const GUARD: &str = "
import os, runpy, sys, threading
def watch():
    while os.read(0, 4096):
        pass
    os._exit(0)
threading.Thread(target=watch, daemon=True).start()
sys.argv = ['synapse', '-c', sys.argv[1]]
runpy.run_module('synapse.app.homeserver', run_name='__main__')
";

/// What accounts may be made with at Synapse's administrators' interface.
pub const REGISTRATION_SECRET: &str = "end-to-end tests";

/// How long Synapse may take from its start to its first answer.
const START_LIMIT: Duration = Duration::from_mins(2);

/// What a test may want otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SynapseOptions {
    /// Whether Synapse answers sliding sync itself.
    pub native_sliding_sync: bool,
    /// Whether Synapse offers what most homeservers do not yet: `state_after` in `/sync` and the
    /// features that Luge has to mask.
    pub experiments: bool,
}

/// A running Synapse.
#[derive(Debug)]
pub struct Synapse {
    process: Process,
    url: String,
    _folder: super::stack::Folder,
}

impl Synapse {
    /// Installs Synapse where it is missing, starts it on a free port, and waits until it answers.
    pub async fn start(options: SynapseOptions) -> Result<Self> {
        let python = tokio::task::spawn_blocking(install::synapse_python).await??;
        let mut refusals = Vec::new();
        // The port may be taken between being found free and being bound.
        for _ in 0..3 {
            match Self::start_once(&python, options).await {
                Ok(synapse) => return Ok(synapse),
                Err(refusal) => refusals.push(format!("{refusal:#}")),
            }
        }
        bail!("Synapse does not start:\n{}", refusals.join("\n"))
    }

    async fn start_once(python: &Path, options: SynapseOptions) -> Result<Self> {
        let folder = super::stack::Folder::new("synapse")?;
        let port = free_port()?;
        let url = format!("http://127.0.0.1:{port}");
        let config = folder.path().join("homeserver.yaml");
        fs::write(&config, configuration(folder.path(), port, options))?;
        fs::write(folder.path().join("log.yaml"), LOGGING)?;
        fs::write(folder.path().join("signing.key"), signing_key()?)?;
        let mut process = Process::start(
            Command::new(python)
                .args(["-c", GUARD])
                .arg(&config)
                .env("PYTHONUNBUFFERED", "1")
                .current_dir(folder.path())
                .stdin(Stdio::piped()),
            &folder.path().join("synapse.log"),
        )?;
        let http = reqwest::Client::builder().no_proxy().build()?;
        let versions = format!("{url}/_matrix/client/versions");
        let started = tokio::time::timeout(START_LIMIT, async {
            loop {
                if http.get(&versions).send().await.is_ok_and(|answer| answer.status().is_success())
                {
                    return Ok(());
                }
                if let Some(status) = process.ended()? {
                    bail!("Synapse ended with {status}");
                }
                tokio::time::sleep(super::GLANCE).await;
            }
        })
        .await;
        started
            .context("Synapse gives no answer")
            .flatten()
            .with_context(|| process.log_tail(50))?;
        Ok(Self { process, url, _folder: folder })
    }

    /// Where it listens.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// The last lines of its log.
    pub fn log_tail(&self, lines: usize) -> String {
        self.process.log_tail(lines)
    }
}

/// The secret half of a signing key, made up; no other server ever sees this one.
fn signing_key() -> Result<String> {
    let mut seed = [0_u8; 32];
    fs::File::open("/dev/urandom")?.read_exact(&mut seed)?;
    let mut key = Vec::new();
    write!(key, "ed25519 a_e2e ")?;
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    // 32 bytes are 43 digits of base 64, the last of which carries four bits.
    for digit in 0..43 {
        let bit =
            |index: usize| seed.get(index / 8).is_some_and(|byte| byte >> (7 - index % 8) & 1 == 1);
        let value = (0..6).fold(0, |value, index| value << 1 | usize::from(bit(digit * 6 + index)));
        key.push(alphabet[value]);
    }
    key.push(b'\n');
    Ok(String::from_utf8(key)?)
}

fn configuration(folder: &Path, port: u16, options: SynapseOptions) -> String {
    let SynapseOptions { native_sliding_sync, experiments } = options;
    // JSON is YAML, and needs no care about indentation.
    let unlimited = serde_json::json!({ "per_second": 100_000, "burst_count": 100_000 });
    serde_json::json!({
        "server_name": "localhost",
        "public_baseurl": format!("http://127.0.0.1:{port}/"),
        "serve_client_wellknown": true,
        "pid_file": folder.join("synapse.pid"),
        "listeners": [{
            "port": port,
            "type": "http",
            "bind_addresses": ["127.0.0.1"],
            "x_forwarded": true,
            "resources": [{ "names": ["client"], "compress": false }],
        }],
        "database": { "name": "sqlite3", "args": { "database": folder.join("homeserver.db") } },
        "log_config": folder.join("log.yaml"),
        "media_store_path": folder.join("media"),
        "signing_key_path": folder.join("signing.key"),
        "trusted_key_servers": [],
        "report_stats": false,
        "presence": { "enabled": false },
        "macaroon_secret_key": "end-to-end tests",
        "form_secret": "end-to-end tests",
        "registration_shared_secret": REGISTRATION_SECRET,
        "enable_registration": true,
        "enable_registration_without_verification": true,
        "bcrypt_rounds": 4,
        "max_upload_size": "50M",
        "url_preview_enabled": false,
        "include_profile_updates_in_sync": experiments,
        "experimental_features": {
            "msc3575_enabled": native_sliding_sync,
            "msc4222_enabled": experiments,
            "msc4306_enabled": experiments,
            "msc4354_enabled": experiments,
        },
        "rc_message": unlimited,
        "rc_registration": unlimited,
        "rc_registration_token_validity": unlimited,
        "rc_login": { "address": unlimited, "account": unlimited, "failed_attempts": unlimited },
        "rc_admin_redaction": unlimited,
        "rc_joins": { "local": unlimited, "remote": unlimited },
        "rc_joins_per_room": unlimited,
        "rc_invites": { "per_room": unlimited, "per_user": unlimited, "per_issuer": unlimited },
        "rc_room_creation": unlimited,
        "rc_presence": { "per_user": unlimited },
        "rc_media_create": unlimited,
        "rc_key_requests": unlimited,
        "rc_delayed_event_mgmt": unlimited,
    })
    .to_string()
}

const LOGGING: &str = "
version: 1
formatters:
  line: {format: '%(asctime)s %(levelname)s %(name)s: %(message)s'}
handlers:
  console: {class: logging.StreamHandler, formatter: line}
root: {level: WARNING, handlers: [console]}
disable_existing_loggers: false
";
