//! What most runs stand on: a Luge of their own in front of a simulated
//! homeserver, and how the command line speaks of it.

use std::path::PathBuf;

use clap::Args;
use luge_loadtest::{
    model::{Homeserver, Session},
    server::Simulated,
    traffic::Kind,
};
use tempfile::TempDir;

use crate::{
    Failure,
    child::Luge,
    client::{Device, Network},
    relay, town,
};

/// The Luge that a run starts.
#[derive(Debug, Args)]
pub(crate) struct LugeArguments {
    /// The program `luge` [default: the one beside this program]
    #[arg(long, value_name = "PATH")]
    luge: Option<PathBuf>,
    /// Luge's shards
    #[arg(long, value_name = "N", default_value_t = 1,
        value_parser = clap::value_parser!(u16).range(1..=256))]
    shards: u16,
}

impl LugeArguments {
    /// Luge in front of this homeserver, with an empty data folder.
    pub(crate) async fn start(&self, homeserver: Homeserver) -> Result<Stand, Failure> {
        self.start_with(homeserver, &[]).await
    }

    /// The same, with further arguments for Luge.
    pub(crate) async fn start_with(
        &self,
        homeserver: Homeserver,
        more: &[&str],
    ) -> Result<Stand, Failure> {
        let program = self.program()?;
        let mut arguments = vec!["--shards".to_owned(), self.shards.to_string()];
        arguments.extend(more.iter().map(|argument| (*argument).to_owned()));
        let simulated = town::serve(homeserver)?;
        let folder = tempfile::tempdir()?;
        let luge = Luge::start(&program, &simulated.url, folder.path(), &arguments).await?;
        Ok(Stand { luge, network: Network::new()?, simulated, program, arguments, folder })
    }

    /// Its shards, in words.
    pub(crate) fn shards(&self) -> String {
        match self.shards {
            1 => "one shard".to_owned(),
            shards => format!("{shards} shards"),
        }
    }

    fn program(&self) -> Result<PathBuf, Failure> {
        if let Some(program) = &self.luge {
            return Ok(program.clone());
        }
        let program = std::env::current_exe()?.with_file_name("luge");
        if program.is_file() {
            return Ok(program);
        }
        Err(format!("there is no {}: say where luge is with --luge", program.display()).into())
    }
}

/// A running Luge and its homeserver. Dropping it ends both, and removes Luge's
/// data.
pub(crate) struct Stand {
    pub(crate) luge: Luge,
    pub(crate) network: Network,
    pub(crate) simulated: Simulated,
    program: PathBuf,
    arguments: Vec<String>,
    pub(crate) folder: TempDir,
}

impl Stand {
    /// A bare relay in front of this homeserver.
    pub(crate) async fn bare(homeserver: Homeserver) -> Result<Self, Failure> {
        let program = std::env::current_exe()?;
        let simulated = town::serve(homeserver)?;
        let folder = tempfile::tempdir()?;
        let arguments = relay::command_line(&simulated.url);
        let luge =
            Luge::run(&program, &arguments.each_ref().map(|it| &**it), folder.path()).await?;
        let network = Network::new()?;
        Ok(Self { luge, network, simulated, program, arguments: Vec::new(), folder })
    }

    /// A client of Luge.
    pub(crate) fn device(&self, token: &str, conn_id: &str) -> Device {
        Device::new(&self.network, &self.luge.url, token, conn_id)
    }

    /// The token of the first account, by user id.
    pub(crate) fn first_token(&self) -> Result<String, Failure> {
        Ok(self.simulated.users.first().ok_or("there is nobody")?.access_token.clone())
    }

    /// How often Luge asked the homeserver for what comes after a `since`, for a
    /// session's device: what came before that is durable then.
    pub(crate) async fn asked(&self, session: &Session) -> Result<u64, Failure> {
        let device_id = session.device_id.clone();
        let asked = self
            .simulated
            .handle()
            .begin(move |homeserver, _| homeserver.traffic().of(&device_id, Kind::Sync).asked)?;
        Ok(asked.await.map_err(|_| "the simulated homeserver has ended")?)
    }

    /// Starts Luge again, on the same data and another port, after
    /// [`Luge::stop`].
    pub(crate) async fn start_again(&mut self) -> Result<(), Failure> {
        let folder = self.folder.path();
        self.luge =
            Luge::start(&self.program, &self.simulated.url, folder, &self.arguments).await?;
        Ok(())
    }
}
