//! Puts Synapse and matrix-js-sdk below the cargo target folder, once for all test binaries.
//!
//! Only the ordinary clients are used (pip, npm), as the machine has configured them.

use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context, Result, bail, ensure};

/// The release of Synapse that the tests run against.
pub const SYNAPSE_VERSION: &str = "1.163.2";

const PACKAGE_JSON: &str = include_str!("../../js/package.json");
const PACKAGE_LOCK: &str = include_str!("../../js/package-lock.json");
const DRIVER: &str = include_str!("../../js/driver.mjs");

/// The folder of this build profile, such as `target/debug`, found from where the test itself lies.
pub fn profile_folder() -> Result<PathBuf> {
    let executable = std::env::current_exe().context("the test does not know its own path")?;
    executable
        .ancestors()
        .find(|folder| folder.file_name().is_some_and(|name| name == "deps" || name == "examples"))
        .and_then(Path::parent)
        .map(Path::to_owned)
        .with_context(|| format!("{} does not lie in a cargo target folder", executable.display()))
}

/// The folder that installed things are kept in between runs.
fn cache_folder() -> Result<PathBuf> {
    let profile = profile_folder()?;
    let target = profile.parent().context("the profile folder has no parent")?;
    let cache = target.join("luge-e2e");
    fs::create_dir_all(&cache).with_context(|| format!("cannot create {}", cache.display()))?;
    Ok(cache)
}

/// Runs `install` in `folder` unless the folder says that `identity` is installed there already.
///
/// Test binaries may run at the same time: the lock makes all but one wait, and those then find it
/// done. What a broken-off attempt left behind is removed first.
fn once(folder: &Path, identity: &str, install: impl FnOnce(&Path) -> Result<()>) -> Result<()> {
    let lock = File::create(folder.with_extension("lock"))?;
    lock.lock().context("cannot lock the folder of installed packages")?;
    let mark = folder.join("installed");
    if fs::read_to_string(&mark).is_ok_and(|found| found == identity) {
        return Ok(());
    }
    if folder.exists() {
        fs::remove_dir_all(folder)?;
    }
    fs::create_dir_all(folder)?;
    install(folder)?;
    fs::write(mark, identity)?;
    Ok(())
}

/// Runs a command to its end, and fails with what it printed.
pub(crate) fn run(command: &mut Command, purpose: &str) -> Result<String> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .with_context(|| format!("{purpose}: cannot start {}", command.get_program().display()))?;
    let printed = String::from_utf8_lossy(&output.stdout).into_owned();
    ensure!(
        output.status.success(),
        "{purpose}: {command:?} ended with {}\n{printed}\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(printed)
}

/// The Python interpreter of a virtual environment that has Synapse; installs it where it is missing.
pub fn synapse_python() -> Result<PathBuf> {
    let folder = cache_folder()?.join("synapse");
    let python = folder.join("bin/python");
    let identity = format!("matrix-synapse {SYNAPSE_VERSION}");
    once(&folder, &identity, |folder| {
        let version = run(
            Command::new("python3")
                .args(["-c", "import sys; print('%d.%d' % sys.version_info[:2])"]),
            "these tests need python3 3.9 or newer on PATH, to install Synapse with",
        )?;
        let recent = version
            .trim()
            .split_once('.')
            .and_then(|(major, minor)| Some((major.parse().ok()?, minor.parse().ok()?)))
            .is_some_and(|version: (u32, u32)| version >= (3, 9));
        ensure!(recent, "python3 on PATH is {}; Synapse needs 3.9 or newer", version.trim());
        run(
            Command::new("python3").args(["-m", "venv"]).arg(folder),
            "cannot make a virtual environment (Debian and Ubuntu: install python3-venv)",
        )?;
        let requirement = format!("matrix-synapse=={SYNAPSE_VERSION}");
        run(
            Command::new(&python).args(["-m", "pip", "install", "--quiet", &requirement]),
            "cannot install Synapse",
        )?;
        Ok(())
    })?;
    Ok(python)
}

/// Where Node.js and the driver script are.
pub struct NodeInstallation {
    /// The Node.js binary to run the driver with.
    pub node: PathBuf,
    /// The script; its packages are beside it.
    pub driver: PathBuf,
}

/// Node.js and matrix-js-sdk; installs them where they are missing.
pub fn node() -> Result<NodeInstallation> {
    let folder = cache_folder()?.join("js");
    let identity = format!("{PACKAGE_JSON}{PACKAGE_LOCK}");
    once(&folder, &identity, |folder| {
        for program in ["node", "npm"] {
            run(
                Command::new(program).arg("--version"),
                "this test needs any node and npm on PATH, to install matrix-js-sdk with",
            )?;
        }
        fs::write(folder.join("package.json"), PACKAGE_JSON)?;
        fs::write(folder.join("package-lock.json"), PACKAGE_LOCK)?;
        // A fixed NODE_ENV would leave packages out; scripts are not needed by any of these.
        run(
            Command::new("npm")
                .args(["ci", "--ignore-scripts", "--no-audit", "--no-fund", "--loglevel=error"])
                .env_remove("NODE_ENV")
                .current_dir(folder),
            "cannot install matrix-js-sdk",
        )?;
        Ok(())
    })?;
    let driver = folder.join("driver.mjs");
    if fs::read_to_string(&driver).ok().as_deref() != Some(DRIVER) {
        // Renamed into place, so that another test binary never runs half a script.
        let fresh = folder.join(format!("driver.{}.new", std::process::id()));
        fs::write(&fresh, DRIVER)?;
        fs::rename(&fresh, &driver)?;
    }
    let packaged = ["x64", "arm64"]
        .map(|arch| folder.join(format!("node_modules/node-linux-{arch}/bin/node")))
        .into_iter()
        .find(|path| path.exists());
    // A machine without a packaged Node.js runs its own, which must then be recent enough.
    let node = packaged.unwrap_or_else(|| PathBuf::from("node"));
    Ok(NodeInstallation { node, driver })
}

/// The `luge` binary of the profile that the test was built with; builds it where it is outdated.
///
/// Cargo gives a package no way to depend on another package's binary, so cargo itself is asked.
pub fn luge() -> Result<PathBuf> {
    if let Some(given) = std::env::var_os("LUGE_E2E_BINARY") {
        return Ok(given.into());
    }
    let profile_folder = profile_folder()?;
    let name = profile_folder.file_name().context("the profile folder has no name")?;
    let profile = if name == "debug" { OsString::from("dev") } else { name.to_owned() };
    let target = profile_folder.parent().context("the profile folder has no parent")?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--quiet", "--package", "luge-server", "--bin", "luge", "--profile"])
        .arg(profile)
        .arg("--manifest-path")
        .arg(concat!(env!("CARGO_MANIFEST_DIR"), "/../Cargo.toml"))
        .env("CARGO_TARGET_DIR", target);
    // What cargo set for this test would make build scripts of other packages run again.
    for (key, _) in std::env::vars_os() {
        let text = key.to_string_lossy();
        if ["CARGO_PKG_", "CARGO_MANIFEST_", "CARGO_CRATE_", "CARGO_BIN_"]
            .iter()
            .any(|prefix| text.starts_with(prefix))
            || text == "LD_LIBRARY_PATH"
        {
            command.env_remove(key);
        }
    }
    run(&mut command, "cannot build luge")?;
    let binary = profile_folder.join("luge");
    if !binary.exists() {
        bail!("cargo built luge, but it is not at {}", binary.display());
    }
    Ok(binary)
}
