//! matrix-sdk put together as Element X puts it together.

use std::collections::{BTreeMap, HashSet};
use std::fmt::{self, Debug};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::{Context, Result, bail};
use eyeball_im::Vector;
use futures_util::StreamExt as _;
use matrix_sdk::authentication::matrix::MatrixSession;
use matrix_sdk::encryption::EncryptionSettings;
use matrix_sdk::ruma::events::receipt::SyncReceiptEvent;
use matrix_sdk::ruma::events::typing::SyncTypingEvent;
use matrix_sdk::ruma::{EventId, OwnedEventId, OwnedRoomId, OwnedUserId, RoomId};
use matrix_sdk::sliding_sync::VersionBuilder;
use matrix_sdk::{Client, Room, RoomState};
use matrix_sdk_ui::notification_client::{
    NotificationClient, NotificationProcessSetup, NotificationStatus,
};
use matrix_sdk_ui::room_list_service::filters::new_filter_non_left;
use matrix_sdk_ui::room_list_service::{RoomListItem, RoomListLoadingState};
use matrix_sdk_ui::sync_service::SyncService;
use matrix_sdk_ui::timeline::{RoomExt as _, Timeline};
use tokio::task::AbortHandle;
use tracing::field::{Field, Visit};
use tracing_subscriber::layer::{Context as LayerContext, SubscriberExt as _};

use super::account::PASSWORD;
use super::stack::Folder;
use super::{eventually, within};

/// More rooms than any test has, so that the room list is one page.
const PAGE: usize = 500;

/// How often a client of this process was told that its position is unknown.
static SESSIONS_RESET: AtomicUsize = AtomicUsize::new(0);

/// A running Element X without a screen.
pub struct ElementX {
    /// The client, to do things with.
    pub client: Client,
    service: Arc<SyncService>,
    entries: Arc<Mutex<Vector<RoomListItem>>>,
    timelines: tokio::sync::Mutex<BTreeMap<OwnedRoomId, Arc<Timeline>>>,
    seen: Arc<Mutex<Ephemeral>>,
    entries_task: AbortHandle,
    folder: Arc<Folder>,
}

#[derive(Debug, Default)]
struct Ephemeral {
    typing: Vec<(OwnedRoomId, Vec<OwnedUserId>)>,
    receipts: Vec<(OwnedRoomId, OwnedEventId, OwnedUserId)>,
}

/// What is needed to start the same app again on the same device.
#[derive(Debug)]
pub struct Suspended {
    url: String,
    session: MatrixSession,
    folder: Arc<Folder>,
}

/// A message as the app would draw it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The text.
    pub body: String,
    /// Whether it came encrypted, and was decrypted here.
    pub encrypted: bool,
}

impl Debug for ElementX {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("ElementX")
            .field("user", &self.client.user_id())
            .finish_non_exhaustive()
    }
}

impl ElementX {
    /// Logs in at `url` and starts to sync.
    pub async fn log_in(url: &str, name: &str) -> Result<Self> {
        let folder = Arc::new(Folder::new("element-x")?);
        let client = Self::client(url, &folder).await?;
        within("the log-in of an SDK client", async {
            let login = client.matrix_auth().login_username(name, PASSWORD);
            Ok(login.initial_device_display_name("Element X").send().await?)
        })
        .await?;
        let app = Self::run(client, folder).await?;
        let encryption = app.client.encryption();
        within("cross-signing keys", async {
            encryption.wait_for_e2ee_initialization_tasks().await;
            Ok(())
        })
        .await?;
        Ok(app)
    }

    async fn client(url: &str, folder: &Folder) -> Result<Client> {
        let settings =
            EncryptionSettings { auto_enable_cross_signing: true, ..EncryptionSettings::default() };
        let client = Client::builder()
            .server_name_or_homeserver_url(url)
            .sqlite_store(folder.path(), None)
            .sliding_sync_version_builder(VersionBuilder::DiscoverNative)
            .with_encryption_settings(settings)
            .respect_login_well_known(true)
            .build();
        within("the discovery of an SDK client", async { Ok(client.await?) }).await
    }

    async fn run(client: Client, folder: Arc<Folder>) -> Result<Self> {
        let seen = Arc::new(Mutex::new(Ephemeral::default()));
        client.add_event_handler({
            let seen = seen.clone();
            move |event: SyncTypingEvent, room: Room| async move {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                seen.typing.push((room.room_id().to_owned(), event.content.user_ids));
            }
        });
        client.add_event_handler({
            let seen = seen.clone();
            move |event: SyncReceiptEvent, room: Room| async move {
                let mut seen = seen.lock().unwrap_or_else(PoisonError::into_inner);
                for (event_id, receipts) in event.content.0 {
                    for user in receipts.into_values().flat_map(BTreeMap::into_keys) {
                        seen.receipts.push((room.room_id().to_owned(), event_id.clone(), user));
                    }
                }
            }
        });
        client.event_cache().subscribe()?;
        let service = SyncService::builder(client.clone()).with_offline_mode().build().await?;
        let service = Arc::new(service);
        let list = service.room_list_service().all_rooms().await?;
        let entries = Arc::new(Mutex::new(Vector::new()));
        let entries_task = tokio::spawn({
            let entries = entries.clone();
            async move {
                let (stream, controller) = list.entries_with_dynamic_adapters(PAGE);
                controller.set_filter(Box::new(new_filter_non_left()));
                let mut stream = std::pin::pin!(stream);
                while let Some(diffs) = stream.next().await {
                    let mut entries = entries.lock().unwrap_or_else(PoisonError::into_inner);
                    for diff in diffs {
                        diff.apply(&mut entries);
                    }
                }
            }
        })
        .abort_handle();
        service.start().await;
        Ok(Self {
            client,
            service,
            entries,
            timelines: tokio::sync::Mutex::default(),
            seen,
            entries_task,
            folder,
        })
    }

    /// Ends the app; its device stays logged in, and its stores stay where they are.
    pub async fn suspend(self, url: &str) -> Result<Suspended> {
        self.service.stop().await;
        let session = self.client.matrix_auth().session().context("not logged in")?;
        Ok(Suspended { url: url.to_owned(), session, folder: self.folder.clone() })
    }

    /// Starts the app again.
    pub async fn resume(suspended: Suspended) -> Result<Self> {
        let client = Self::client(&suspended.url, &suspended.folder).await?;
        client.restore_session(suspended.session).await?;
        Self::run(client, suspended.folder).await
    }

    /// The names of the rooms in the room list, in its order; a room without a name is `None`.
    pub fn room_names(&self) -> Vec<Option<String>> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|item| item.cached_display_name().map(|name| name.to_string())).collect()
    }

    /// The ids of the rooms in the room list, in its order.
    pub fn room_ids(&self) -> Vec<OwnedRoomId> {
        let entries = self.entries.lock().unwrap_or_else(PoisonError::into_inner);
        entries.iter().map(|item| item.room_id().to_owned()).collect()
    }

    /// Waits until the room list knows that it is complete, and gives how many rooms the server says
    /// there are.
    pub async fn loaded_rooms(&self) -> Result<u32> {
        let list = self.service.room_list_service().all_rooms().await?;
        eventually("a loaded room list", async || match list.loading_state().get() {
            RoomListLoadingState::Loaded { maximum_number_of_rooms } => Ok(maximum_number_of_rooms),
            RoomListLoadingState::NotLoaded => Ok(None),
        })
        .await
    }

    /// Waits until the room is in the room list with this membership.
    pub async fn room(&self, room_id: &RoomId, state: RoomState) -> Result<Room> {
        let user = self.client.user_id().context("not logged in")?;
        eventually(&format!("{room_id} to be {state:?} in the list of {user}"), async || {
            let listed = self.room_ids().iter().any(|listed| listed == room_id);
            let room = self.client.get_room(room_id).filter(|room| room.state() == state);
            Ok(room.filter(|_| listed))
        })
        .await
    }

    /// Tells the server which rooms are on the screen.
    pub async fn look_at(&self, rooms: &[&RoomId]) {
        self.service.room_list_service().subscribe_to_rooms(rooms).await;
    }

    /// The messages of a room as they are drawn, oldest first.
    pub async fn messages(&self, room_id: &RoomId) -> Result<Vec<Message>> {
        let mut timelines = self.timelines.lock().await;
        let timeline = if let Some(timeline) = timelines.get(room_id) {
            timeline.clone()
        } else {
            let room = self.client.get_room(room_id).context("no such room")?;
            let timeline = Arc::new(room.timeline().await?);
            timelines.insert(room_id.to_owned(), timeline.clone());
            timeline
        };
        let items = timeline.items().await;
        let events = items.iter().filter_map(|item| item.as_event());
        // The SDK itself draws an event twice, and goes on doing so, where its key comes while the
        // room is opened: with Synapse's own sliding sync too. An echo beside its event, or a second
        // event, is drawn twice all the same.
        let mut drawn = HashSet::new();
        Ok(events
            .filter(|event| drawn.insert(event.identifier()))
            .filter_map(|event| {
                let message = event.content().as_message()?;
                let encrypted = event.encryption_info().is_some();
                Some(Message { body: message.body().to_owned(), encrypted })
            })
            .collect())
    }

    /// Waits until a message is drawn, and gives it; fails if it is drawn twice.
    pub async fn message(&self, room_id: &RoomId, body: &str) -> Result<Message> {
        let user = self.client.user_id().context("not logged in")?;
        let found = eventually(&format!("{user} to read {body:?}"), async || {
            let messages = self.messages(room_id).await?;
            Ok(Some(
                messages.into_iter().filter(|message| message.body == body).collect::<Vec<_>>(),
            )
            .filter(|found| !found.is_empty()))
        })
        .await?;
        match found.as_slice() {
            [message] => Ok(message.clone()),
            several => bail!("{user} sees {body:?} {} times", several.len()),
        }
    }

    /// What the app would show for a push, fetched by sliding sync alone.
    pub async fn notification(
        &self,
        room_id: &RoomId,
        event: &EventId,
    ) -> Result<NotificationStatus> {
        within("the event of a notification", async {
            let sync_service = self.service.clone();
            let setup = NotificationProcessSetup::SingleProcess { sync_service };
            let notifications = NotificationClient::new(self.client.clone(), setup).await?;
            Ok(notifications.get_notification_with_sliding_sync(room_id, event).await?)
        })
        .await
    }

    /// Waits until `other` is seen typing.
    pub async fn sees_typing(&self, room_id: &RoomId, other: &str) -> Result<()> {
        eventually(&format!("{other} to be seen typing"), async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let mut typing = seen.typing.iter();
            Ok(typing
                .any(|(room, users)| room == room_id && users.iter().any(|user| user == other))
                .then_some(()))
        })
        .await
    }

    /// Waits until `other`'s receipt on an event is seen.
    pub async fn sees_receipt(&self, room_id: &RoomId, event: &str, other: &str) -> Result<()> {
        eventually(&format!("the receipt of {other} on {event}"), async || {
            let seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
            let mut receipts = seen.receipts.iter();
            Ok(receipts
                .any(|(room, on, user)| room == room_id && on == event && user == other)
                .then_some(()))
        })
        .await
    }
}

impl Drop for ElementX {
    fn drop(&mut self) {
        self.entries_task.abort();
    }
}

/// Starts to count how often clients of this process lose their position; call it before they start.
pub fn watch_session_resets() {
    let subscriber = tracing_subscriber::registry().with(ResetCounter);
    // Another test of this binary may have done it already, with the same effect.
    let _ = tracing::subscriber::set_global_default(subscriber);
}

/// How often clients of this process have lost their position since [`watch_session_resets`].
pub fn session_resets() -> usize {
    SESSIONS_RESET.load(Ordering::SeqCst)
}

/// Hears from the SDK's log what its interface does not tell.
struct ResetCounter;

impl<S: tracing::Subscriber> tracing_subscriber::Layer<S> for ResetCounter {
    fn enabled(&self, metadata: &tracing::Metadata<'_>, _: LayerContext<'_, S>) -> bool {
        metadata.is_event() && metadata.target().starts_with("matrix_sdk::sliding_sync")
    }

    fn on_event(&self, event: &tracing::Event<'_>, _: LayerContext<'_, S>) {
        let mut expired = Expired(false);
        event.record(&mut expired);
        if expired.0 {
            SESSIONS_RESET.fetch_add(1, Ordering::SeqCst);
        }
    }
}

struct Expired(bool);

impl Visit for Expired {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        if field.name() == "message" && format!("{value:?}").starts_with("Session expired") {
            self.0 = true;
        }
    }
}
