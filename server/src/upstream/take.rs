//! From a `/sync` body to durable facts: parsed on the shard where it is small,
//! by a helper thread where it is large, and handed to the ledger.

use std::time::Duration;

use bytes::Bytes;
use luge_core::{
    ledger::{Command, Polled, Reply},
    shard::PollOrder,
    upstream::{self, Limits, Scanned, Section, SyncBatch},
    world::World,
};
use luge_io::{
    helpers::Helpers,
    oneshot,
    time::{self, clock},
};

use crate::{config::ServerLimits, ledger::LedgerHandle};

/// What takes bodies in.
#[derive(Clone)]
pub struct Taker {
    ledger: LedgerHandle,
    helpers: Helpers,
}

/// A body that is durable.
pub(super) struct Taken {
    /// Its `next_batch`, where it had one.
    pub(super) since: Option<String>,
    /// What it was if it said nothing.
    pub(super) silence: Option<u64>,
}

/// Rooms of a large body that go to the ledger at once.
const PART_ROOMS_MAX: usize = 100;
/// Bytes of them.
const PART_BYTES_MAX: usize = 2 << 20;
/// How long a helper waits for the ledger before it gives up. The ledger is
/// then in trouble of its own; the poll is repeated.
const LEDGER_PATIENCE: Duration = Duration::from_mins(10);
/// Pause before a command is offered again to a ledger that has enough to do.
const LEDGER_PAUSE: Duration = Duration::from_millis(20);

impl Taker {
    /// Takes bodies in for `ledger`.
    pub fn new(ledger: LedgerHandle, helpers: Helpers) -> Self {
        Self { ledger, helpers }
    }

    /// The ledger that bodies go to.
    pub(super) fn ledger(&self) -> &LedgerHandle {
        &self.ledger
    }

    /// Has a long computation run on a helper thread; `None` where it panicked.
    pub(super) async fn off_shard<T: Send + 'static>(
        &self,
        job: impl FnOnce() -> T + Send + 'static,
    ) -> Option<T> {
        on_helper(&self.helpers, job).await
    }

    /// Parses `body` and has the ledger take it in; done when it is durable. `None` where
    /// it was not taken in, and the homeserver has to be asked again.
    pub(super) async fn take(
        &self,
        order: &PollOrder,
        body: Bytes,
        limits: &ServerLimits,
    ) -> Result<Option<Taken>, String> {
        if body.len() <= limits.parse_inline_bytes_max {
            let batch = parse_news(&self.ledger.world(), order, &body)?;
            let silence = batch.silence(order.since.as_deref());
            let since = batch.next_batch.clone();
            if order.is_known(&batch, clock::now_ms()) {
                return Ok(Some(Taken { since, silence }));
            }
            let mut reply = self.take_small(order, batch).await?;
            if reply == Reply::Whole {
                let whole = upstream::parse(&body, &Limits::default());
                reply = self.take_small(order, whole.map_err(|it| it.to_string())?).await?;
            }
            return Ok((reply != Reply::Again).then_some(Taken { since, silence }));
        }
        let (ledger, order) = (self.ledger.clone(), order.clone());
        let job = move || take_in_parts(&ledger, &order, &body);
        let taken = self.off_shard(job).await;
        taken.unwrap_or_else(|| Err("it could not be parsed".to_owned()))
    }

    /// Has the ledger take in all of an answer.
    async fn take_small(&self, order: &PollOrder, mut batch: SyncBatch) -> Result<Reply, String> {
        note_set_aside(&batch);
        set_aside_uncreated(&self.ledger, &mut batch);
        let mut command = Box::new(polled(order, batch, (true, true)));
        loop {
            match self.ledger.submit(*command) {
                Ok(reply) => return reply.await.map_err(|_| "the ledger has ended".to_owned()),
                Err(refused) => {
                    command = refused;
                    time::sleep(LEDGER_PAUSE).await;
                }
            }
        }
    }
}

/// An answer, less what of it is known already.
fn parse_news(world: &World, order: &PollOrder, body: &[u8]) -> Result<SyncBatch, String> {
    let limits = Limits::default();
    let user_id = world.user_id(order.user).filter(|_| order.since.is_some());
    let batch = match user_id {
        Some(user_id) => {
            upstream::parse_news(body, &limits, user_id, |room_id| world.lately(room_id))
        }
        None => upstream::parse(body, &limits),
    };
    batch.map_err(|error| error.to_string())
}

/// Runs `job` on a helper thread. What it owns is freed there: to give back
/// hundreds of megabytes takes as long as many a turn.
async fn on_helper<T: Send + 'static>(
    helpers: &Helpers,
    job: impl FnOnce() -> T + Send + 'static,
) -> Option<T> {
    let mut offered = helpers.run(job);
    loop {
        match offered {
            Ok(answer) => return answer.await.ok(),
            Err(refused) => {
                time::sleep(LEDGER_PAUSE).await;
                offered = helpers.run_again(refused);
            }
        }
    }
}

/// The answer to a poll, or a part of it. A first answer of the whole account that came in
/// parts is too dear to be asked for again; of another the parts that were taken in are
/// known then.
fn polled(order: &PollOrder, batch: SyncBatch, (is_whole, last_part): (bool, bool)) -> Command {
    Command::Polled(Box::new(Polled {
        user: order.user,
        device: order.device,
        since: order.since.clone(),
        with_rooms: order.with_rooms,
        asked_ms: order.asked_ms,
        may_repeat: order.may_repeat && (is_whole || order.since.is_some()),
        last_part,
        batch,
    }))
}

/// Parses a large body room by room and hands it over part by part, on a
/// helper thread: neither memory nor a shard's turn grows with the account. `None` where
/// the homeserver has to be asked again.
fn take_in_parts(
    ledger: &LedgerHandle,
    order: &PollOrder,
    body: &[u8],
) -> Result<Option<Taken>, String> {
    let limits = Limits::default();
    let scanned = Scanned::scan(body, &limits).map_err(|error| error.to_string())?;
    let mut part = SyncBatch::default();
    let mut part_bytes = 0;
    for range in scanned.rooms() {
        let (room, set_asides) = scanned.room(range);
        part_bytes += range.range.len();
        part.rooms.push(room);
        part.add_set_aside(set_asides, &limits);
        if part.rooms.len() >= PART_ROOMS_MAX || part_bytes >= PART_BYTES_MAX {
            set_aside_uncreated(ledger, &mut part);
            note_set_aside(&part);
            let part = std::mem::take(&mut part);
            if submit_blocking(ledger, polled(order, part, (false, false)))? == Reply::Again {
                return Ok(None);
            }
            part_bytes = 0;
        }
    }
    let mut last = scanned.rest();
    last.rooms = part.rooms;
    set_aside_uncreated(ledger, &mut last);
    note_set_aside(&last);
    let since = last.next_batch.clone();
    let reply = submit_blocking(ledger, polled(order, last, (false, true)))?;
    Ok((reply != Reply::Again).then_some(Taken { since, silence: None }))
}

fn submit_blocking(ledger: &LedgerHandle, command: Command) -> Result<Reply, String> {
    let mut command = Box::new(command);
    let mut reply: oneshot::Receiver<Reply> = loop {
        match ledger.submit(*command) {
            Ok(reply) => break reply,
            Err(refused) => {
                command = refused;
                std::thread::park_timeout(LEDGER_PAUSE);
            }
        }
    };
    match reply.wait_blocking(LEDGER_PATIENCE) {
        Some(Ok(reply)) => Ok(reply),
        Some(Err(_)) => Err("the ledger has ended".to_owned()),
        None => Err("the ledger gave no answer in time".to_owned()),
    }
}

/// Takes out of `batch` the joined rooms that nobody has told the create event
/// of: neither their version nor their type is known, and a client can do
/// nothing with them. A homeserver gives it whenever a room is new to a user.
fn set_aside_uncreated(ledger: &LedgerHandle, batch: &mut SyncBatch) {
    let world = ledger.world();
    batch.rooms.retain(|room| {
        let tells = || room.state.iter().chain(&room.timeline).any(|it| it.kind == CREATE);
        let is_known = || world.find_room(&room.room_id).is_some_and(|room| room.created);
        let keeps = room.section != Section::Join || tells() || is_known();
        if !keeps {
            let (room_id, reason) = (&*room.room_id, "there is no m.room.create");
            tracing::warn!(room_id, place = "rooms.join", reason, "malformed and set aside");
        }
        keeps
    });
}

/// The type of the event that every room begins with.
const CREATE: &str = "m.room.create";

fn note_set_aside(batch: &SyncBatch) {
    for it in &batch.set_aside {
        let room_id = it.room_id.as_deref().unwrap_or_default();
        tracing::warn!(room_id, place = it.place, reason = it.reason, "malformed and set aside");
    }
    let more = batch.set_aside_count.saturating_sub(batch.set_aside.len() as u64);
    if more > 0 {
        tracing::warn!(more, "more of the same sync answer was set aside");
    }
}

#[cfg(test)]
mod tests {
    use std::{sync::mpsc, thread};

    use luge_core::{
        id::Sequence,
        ledger::{Ledger, SignIn},
        shard::Token,
    };
    use luge_io::{
        driver::Driver,
        mailbox::{self, Inbox},
    };
    use luge_store::{Options, Store};
    use serde_json::{Value, json};

    use super::*;
    use crate::{
        ledger,
        message::{Message, Outboxes},
    };

    /// A ledger of its own, and two who have signed in.
    struct Town {
        taker: Taker,
        ledger: thread::JoinHandle<()>,
        /// What a shard would be told.
        _shard: Inbox<Message>,
        _folder: tempfile::TempDir,
    }

    impl Town {
        fn start() -> Self {
            let folder = tempfile::tempdir().unwrap();
            let store = Store::open(folder.path(), &Options::default()).unwrap();
            let (outbox, inbox) = mailbox::inbox(64);
            let (handle, thread) = ledger::start(ledger::Start {
                ledger: store.read(|reader| Ledger::open(reader)).unwrap().unwrap(),
                writer: store.writer().unwrap(),
                store,
                shards: Outboxes::new(vec![outbox]),
                commands_max: 8,
                group_max: 8,
            })
            .unwrap();
            let helpers = Helpers::start("test", 1, 1).unwrap();
            let taker = Taker::new(handle, helpers);
            Self { taker, ledger: thread, _shard: inbox, _folder: folder }
        }

        async fn sign_in(&self, user_id: &str) -> PollOrder {
            let key = [user_id.as_bytes()[1]; 32];
            let reply = self.taker.ledger.submit(Command::SignIn(SignIn {
                user_id: user_id.to_owned(),
                device_id: "A".to_owned(),
                token_key: key,
                token_sealed: Vec::new(),
            }));
            let Reply::SignedIn(user, device) = reply.unwrap().await.unwrap() else {
                panic!("a sign-in is answered with numbers");
            };
            PollOrder {
                user,
                device,
                token: Token { key, secret: "secret".into() },
                since: None,
                with_rooms: true,
                timeout_ms: 0,
                // Whatever others tell is newer.
                asked_ms: 1,
                may_repeat: true,
                silence: None,
            }
        }

        /// The `since` to go on from, once the answer was taken in.
        async fn take(
            &self,
            order: &PollOrder,
            next_batch: &str,
            timeline: Value,
            limits: &ServerLimits,
        ) -> Option<String> {
            let rooms = json!({"join": {"!r:x": {"timeline": timeline}}});
            let body = json!({"next_batch": next_batch, "rooms": rooms}).to_string();
            let taken = self.taker.take(order, body.into(), limits).await.unwrap();
            taken.map(|taken| taken.since.unwrap())
        }

        fn end(self) {
            assert!(self.taker.ledger.finish());
            self.ledger.join().unwrap();
        }
    }

    fn events(ids: &[&str]) -> Value {
        let event = |id: &&str| {
            json!({
                "event_id": id, "type": "m.room.message", "sender": "@ann:x",
                "origin_server_ts": 5, "content": {"body": id},
            })
        };
        ids.iter().map(event).collect()
    }

    /// Goal: an answer without a place has the homeserver asked again, unless it is the
    /// account's first and came in parts.
    #[test]
    fn an_answer_without_a_place_is_asked_for_again_unless_it_is_a_first_one_in_parts() {
        let inline = ServerLimits::default();
        let in_parts = ServerLimits { parse_inline_bytes_max: 0, ..ServerLimits::default() };
        for (limits, is_first, is_taken) in [
            (&inline, false, false),
            (&in_parts, false, false),
            (&inline, true, false),
            (&in_parts, true, true),
        ] {
            let town = Town::start();
            Driver::Epoll
                .block_on(async {
                    let [ann, mut bob] =
                        [town.sign_in("@ann:x").await, town.sign_in("@bob:x").await];
                    let mut begins = events(&["$create", "$m4"]);
                    begins[0]["type"] = "m.room.create".into();
                    begins[0]["state_key"] = "".into();
                    let timeline = json!({"events": begins});
                    let since = town.take(&ann, "a1", timeline.clone(), &inline).await;
                    let ann = PollOrder { since, ..ann };
                    if !is_first {
                        bob.since = town.take(&bob, "b1", timeline, &inline).await;
                        assert!(bob.since.is_some());
                    }
                    town.take(&ann, "a2", json!({"events": events(&["$m5"])}), &inline).await;
                    let unplaced = json!({"events": events(&["$m20"]), "limited": true});
                    let since = town.take(&bob, "b2", unplaced.clone(), limits).await;
                    assert_eq!(since.is_some(), is_taken, "in parts, {is_first}");
                    let world = town.taker.ledger.world();
                    let last_gap = world.find_room("!r:x").unwrap().last_gap;
                    assert_eq!(last_gap > Sequence::default(), is_taken, "is it taken in?");
                    // As often as it may be asked for again.
                    let last = PollOrder { may_repeat: false, ..bob };
                    let since = town.take(&last, "b2", unplaced, limits).await;
                    assert_eq!(since.as_deref(), Some("b2"));
                })
                .unwrap();
            town.end();
        }
    }

    /// Tells where it is freed.
    #[derive(Clone)]
    struct Body(mpsc::Sender<thread::ThreadId>);

    impl Drop for Body {
        fn drop(&mut self) {
            self.0.send(thread::current().id()).unwrap();
        }
    }

    /// Goal: a shard is not held up by the memory of what a helper was given.
    #[test]
    fn what_a_helper_is_given_is_freed_there() {
        let helpers = Helpers::start("test", 1, 1).unwrap();
        let (freed, at) = mpsc::channel();
        let body = Body(freed);
        let job = move || {
            let _body = &body;
            thread::current().id()
        };
        let helper = Driver::Epoll.block_on(on_helper(&helpers, job)).unwrap();
        assert_eq!(at.iter().collect::<Vec<_>>(), [helper.unwrap()]);
    }
}
