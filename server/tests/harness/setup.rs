//! A homeserver, a data folder, and Luge in front of the one and on the other.

use std::{cell::RefCell, rc::Rc};

use luge_io::{
    dns::Resolver,
    http::{Client, ClientConfig},
    oneshot,
    tls::{ClientTls, Roots},
};
use luge_loadtest::{
    model::{Homeserver, Session},
    server::{Handle, Simulated},
};
use luge_server::{
    config::Config,
    serve::{self, Running},
};
use tempfile::TempDir;

use super::{device::Device, facts::Facts, follower::Follower};

/// Luge and what is on both sides of it. Lives on the test's own thread, which serves nothing.
pub(crate) struct Setup {
    homeserver: Option<Simulated>,
    pub(crate) sessions: Vec<Session>,
    config: Config,
    running: RefCell<Option<Running>>,
    url: Rc<RefCell<String>>,
    http: Client,
    // The last to go: the folder outlives who writes to it.
    _folder: TempDir,
}

impl Setup {
    /// Luge before `homeserver`, with a configuration of the test's own.
    pub(crate) fn start(homeserver: Simulated, change: impl FnOnce(&mut Config)) -> Self {
        let setup = Self::before(&homeserver.url.clone(), change);
        Self { sessions: homeserver.users.clone(), homeserver: Some(homeserver), ..setup }
    }

    /// Luge before whatever is, or is not, at `url`.
    pub(crate) fn before(url: &str, change: impl FnOnce(&mut Config)) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut config =
            Config::new(url, folder.path().join("data"), "127.0.0.1:0".parse().unwrap());
        change(&mut config);
        let running = serve::start(config.clone()).unwrap();
        let url = Rc::new(RefCell::new(running.url().to_owned()));
        let tls = ClientTls::new(&Roots::Mozilla).unwrap();
        let client_config = ClientConfig { idle_per_host_max: 1_024, ..ClientConfig::default() };
        let http = Client::new(client_config, tls, Resolver::start().unwrap());
        Self {
            homeserver: None,
            sessions: Vec::new(),
            config,
            running: RefCell::new(Some(running)),
            url,
            http,
            _folder: folder,
        }
    }

    /// Where the homeserver is.
    pub(crate) fn homeserver_url(&self) -> &str {
        &self.homeserver.as_ref().expect("this setup has a homeserver").url
    }

    /// The means to act on the homeserver.
    pub(crate) fn homeserver(&self) -> Handle {
        self.homeserver.as_ref().expect("this setup has a homeserver").handle()
    }

    /// Does something to the homeserver, and waits for the outcome.
    pub(crate) fn act<R: Send + 'static>(
        &self,
        act: impl FnOnce(&mut Homeserver, u64) -> R + Send + 'static,
    ) -> R {
        self.homeserver().act(act).unwrap()
    }

    /// What a user ought to have been shown by now.
    pub(crate) fn facts(&self, user_id: &str) -> Facts {
        let user_id = user_id.to_owned();
        self.act(move |homeserver, _| Facts::of(homeserver, &user_id))
    }

    /// A device of the session, with nothing asked yet.
    pub(crate) fn device(&self, session: &Session) -> Device {
        Device::new(self.http.clone(), Rc::clone(&self.url), &session.access_token)
    }

    /// A client of the session that follows everything.
    pub(crate) fn follower(&self, session: &Session) -> Follower {
        Follower::new(self.device(session), &session.user_id)
    }

    /// Stops Luge in order and starts it again on the same folder, while clients go on asking.
    pub(crate) async fn restart(&self) {
        let Some(running) = self.running.borrow_mut().take() else { return };
        let config = self.config.clone();
        let (report, reported) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            running.stop();
            running.join();
            assert!(report.send(serve::start(config).unwrap()).is_ok());
        });
        let running = reported.await.unwrap();
        thread.join().unwrap();
        running.url().clone_into(&mut self.url.borrow_mut());
        *self.running.borrow_mut() = Some(running);
    }

    /// Stops everything. Clients may still be there: their connections close meanwhile.
    pub(crate) async fn end(self) {
        let Self { homeserver, running, http, _folder: folder, .. } = self;
        drop(http);
        let (report, reported) = oneshot::channel();
        let thread = std::thread::spawn(move || {
            if let Some(running) = running.into_inner() {
                running.stop();
                running.join();
            }
            if let Some(homeserver) = homeserver {
                homeserver.stop();
            }
            drop(folder);
            assert!(report.send(()).is_ok());
        });
        reported.await.unwrap();
        thread.join().unwrap();
    }
}
