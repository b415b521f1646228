//! A backend whose server the test plays.

use std::sync::Arc;
use std::time::Duration;

use atone_api::Client;
use atone_catalog::Catalog;
use atone_config::Section;
use atone_proxy::backend::Backend;
use atone_proxy::config::{BackendConfig, Limits, Timeouts};
use atone_proxy::memory::Memory;
use atone_proxy::net::{Peer, Stream};
use atone_proxy::session::Session;
use tokio::net::{UnixListener, UnixStream};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::service;

/// How long a session may go on once both its sides have ended.
const END_LIMIT: Duration = Duration::from_secs(20);

/// The limits of the sessions, small enough to be met.
pub(crate) fn limits() -> Limits {
    Limits {
        max_statement_bytes: 60_000,
        max_branch_rows: 50,
        max_branch_bytes: 100_000,
        max_prepared_statements: 20,
        timeouts: Timeouts { metadata_ttl: Duration::from_secs(60), ..Timeouts::default() },
        ..Limits::default()
    }
}

/// A backend, and where its server is played.
pub(crate) struct Rig {
    backend: Arc<Backend>,
    server: UnixListener,
    draining: watch::Sender<bool>,
    _dir: tempfile::TempDir,
}

/// Both ends of a session.
pub(crate) struct Ends {
    pub(crate) client: UnixStream,
    pub(crate) server: UnixStream,
    pub(crate) session: JoinHandle<()>,
}

impl Rig {
    pub(crate) async fn new(coordinator: Client) -> Rig {
        let dir = tempfile::tempdir().unwrap();
        let (app, account) = (dir.path().join("app"), dir.path().join("account"));
        let config = format!(
            "name = \"fuzz\"\nlisten = \"127.0.0.1:0\"\naddress = \"unix:{}\"\nuser = \"atone\"\npassword = \"\"\n",
            app.display()
        );
        let config = BackendConfig::read(Section::parse(&config).unwrap()).unwrap();
        let mut backend = Backend::new(&config, &limits(), Memory::new(0), coordinator).unwrap();
        // The service account's server keeps to the rules: what it says is for other tests
        service::serve(UnixListener::bind(&account).unwrap());
        let options = mysql_async::OptsBuilder::default()
            .user(Some("atone"))
            .socket(Some(account.display().to_string()))
            .max_allowed_packet(Some(16 << 20))
            .wait_timeout(Some(1000));
        backend.catalog = Catalog::new(options, None, 0);
        Rig {
            backend: Arc::new(backend),
            server: UnixListener::bind(&app).unwrap(),
            draining: watch::Sender::new(false),
            _dir: dir,
        }
    }

    /// A new session.
    pub(crate) async fn session(&mut self) -> Ends {
        let (client, other) = UnixStream::pair().unwrap();
        let draining = self.draining.subscribe();
        let session = Session::serve(self.backend.clone(), Stream::Unix(other), Peer::default(), draining);
        let session = tokio::spawn(session);
        let (server, _) = self.server.accept().await.unwrap();
        Ends { client, server, session }
    }
}

/// Waits for the end of a session whose sides have ended.
pub(crate) async fn ended(session: JoinHandle<()>) -> Result<(), String> {
    match tokio::time::timeout(END_LIMIT, session).await {
        Ok(Ok(())) => Ok(()),
        Ok(Err(error)) => Err(format!("the session panicked: {error}")),
        Err(_) => Err(format!("the session goes on {END_LIMIT:?} after both its sides have ended")),
    }
}
