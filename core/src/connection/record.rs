//! Connections at rest, so that a restart sends nobody back to the start.

use std::sync::Arc;

use imbl::OrdSet;
use rkyv::{Archive, Deserialize, Serialize};

use super::{
    position::Connection,
    state::{SentList, SentRoom, SentScope, State},
};
use crate::{
    id::{RoomNumber, Sequence},
    record::Membership,
    request::{PartialState, RequiredState, RoomConfig, StatePattern},
};

/// A connection, in `Table::Connections`.
#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
pub struct ConnectionRecord {
    number: u64,
    used_ms: u64,
    acknowledged: bool,
    /// The acknowledged one first, where there is one.
    states: Vec<(u64, StateRecord)>,
    configs: Vec<ConfigRecord>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct StateRecord {
    cursor: u64,
    rooms: Vec<(u32, SentRoomRecord)>,
    scopes: Vec<(u32, [Option<u64>; 3])>,
    account_data: Option<u64>,
    device_lists: Option<u64>,
    lists: Vec<SentListRecord>,
    /// MSC3575's sticky parameters, as JSON.
    sticky: Option<String>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct SentListRecord {
    key: String,
    kind: u64,
    runs: Vec<(u64, Vec<u32>)>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct SentRoomRecord {
    cursor: u64,
    membership: Membership,
    since: u64,
    config: u32,
    name: u64,
    avatar: u64,
    heroes: u64,
    counts: Option<(u64, u64)>,
    bump_stamp: u64,
    unread: (u64, u64),
    short_from: u64,
    is_dm: bool,
    lazy_members: Vec<String>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct ConfigRecord {
    timeline_limit: u64,
    required_state: RequiredRecord,
    /// What is wanted of rooms that were replaced.
    old_rooms: Option<(u64, RequiredRecord)>,
    include_heroes: bool,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct RequiredRecord {
    set: StateSetRecord,
    /// Sets with exceptions: pairs of type and state key.
    partial: Vec<(StateSetRecord, Vec<(Option<String>, Option<String>)>)>,
}

#[derive(Archive, Serialize, Deserialize, Clone, Debug, PartialEq, Eq)]
struct StateSetRecord {
    all: bool,
    lazy_members: bool,
    types: Vec<(String, Option<Vec<String>>)>,
    state_keys: Vec<String>,
}

impl ConnectionRecord {
    /// The bytes of `connection`.
    ///
    /// # Panics
    /// Never: serializing into memory has no failure here.
    pub fn encode(connection: &Connection) -> Arc<[u8]> {
        let mut configs = Configs::default();
        let states = connection.acknowledged.iter().chain(&connection.provisional);
        let states = states.map(|(number, state)| (*number, configs.state(state))).collect();
        let record = Self {
            number: connection.number,
            used_ms: connection.used_ms,
            acknowledged: connection.acknowledged.is_some(),
            states,
            configs: configs.known.iter().map(|config| config_record(config)).collect(),
        };
        rkyv::to_bytes::<rkyv::rancor::Error>(&record)
            .expect("a record of strings and integers always serializes")
            .as_slice()
            .into()
    }

    /// The connection in `archive`; `None` where it is not one.
    pub fn decode(archive: &[u8]) -> Option<Connection> {
        let record = rkyv::from_bytes::<Self, rkyv::rancor::Error>(archive).ok()?;
        let configs: Vec<_> = record.configs.into_iter().map(config).map(Arc::new).collect();
        let states = record.states.into_iter();
        let states: Option<Vec<_>> =
            states.map(|(number, state)| Some((number, state_from(state, &configs)?))).collect();
        let mut provisional = states?;
        let acknowledged =
            (record.acknowledged && !provisional.is_empty()).then(|| provisional.remove(0));
        Some(Connection {
            number: record.number,
            acknowledged,
            provisional,
            used_ms: record.used_ms,
        })
    }
}

/// The configurations of a connection, each once.
#[derive(Default)]
struct Configs {
    known: Vec<Arc<RoomConfig>>,
}

impl Configs {
    fn index(&mut self, config: &Arc<RoomConfig>) -> u32 {
        let is_it = |known: &Arc<RoomConfig>| Arc::ptr_eq(known, config) || known == config;
        let index = self.known.iter().position(is_it).unwrap_or_else(|| {
            self.known.push(Arc::clone(config));
            self.known.len() - 1
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    fn state(&mut self, state: &State) -> StateRecord {
        let rooms = state.rooms.iter().map(|(room, sent)| (room.0, self.room(sent))).collect();
        let number = |sequence: Option<Sequence>| sequence.map(|sequence| sequence.0);
        let scope = |(room, sent): (&RoomNumber, &SentScope)| {
            (room.0, [number(sent.account_data), number(sent.receipts), number(sent.typing)])
        };
        StateRecord {
            cursor: state.cursor.0,
            rooms,
            scopes: state.scopes.iter().map(scope).collect(),
            account_data: number(state.account_data),
            device_lists: number(state.device_lists),
            lists: state.lists.iter().map(|(key, list)| list_record(key, list)).collect(),
            sticky: state.sticky.as_ref().and_then(|sticky| serde_json::to_string(&**sticky).ok()),
        }
    }

    fn room(&mut self, sent: &SentRoom) -> SentRoomRecord {
        SentRoomRecord {
            cursor: sent.cursor.0,
            membership: sent.membership,
            since: sent.since.0,
            config: self.index(&sent.config),
            name: sent.name,
            avatar: sent.avatar,
            heroes: sent.heroes,
            counts: sent.counts,
            bump_stamp: sent.bump_stamp,
            is_dm: sent.is_dm,
            unread: sent.unread,
            short_from: sent.short_from,
            lazy_members: sent.lazy_members.iter().map(ToString::to_string).collect(),
        }
    }
}

fn list_record(key: &str, list: &SentList) -> SentListRecord {
    let run =
        |(from, rooms): &(u64, Vec<RoomNumber>)| (*from, rooms.iter().map(|room| room.0).collect());
    SentListRecord {
        key: key.to_owned(),
        kind: list.kind,
        runs: list.runs.iter().map(run).collect(),
    }
}

fn list_from(record: SentListRecord) -> (String, Arc<SentList>) {
    let run = |(from, rooms): (u64, Vec<u32>)| (from, rooms.into_iter().map(RoomNumber).collect());
    let runs = record.runs.into_iter().map(run).collect();
    (record.key, Arc::new(SentList { kind: record.kind, runs }))
}

fn config_record(config: &RoomConfig) -> ConfigRecord {
    ConfigRecord {
        timeline_limit: config.timeline_limit,
        required_state: required_record(&config.required_state),
        old_rooms: config
            .old_rooms
            .as_ref()
            .map(|old| (old.timeline_limit, required_record(&old.required_state))),
        include_heroes: config.include_heroes,
    }
}

fn required_record(wanted: &RequiredState) -> RequiredRecord {
    let pattern = |it: &StatePattern| (it.kind.clone(), it.state_key.clone());
    let partial =
        |it: &PartialState| (set_record(&it.included), it.excluded.iter().map(pattern).collect());
    RequiredRecord {
        set: set_record(wanted),
        partial: wanted.partial.iter().map(partial).collect(),
    }
}

fn set_record(set: &RequiredState) -> StateSetRecord {
    let keys = |keys: &Option<std::collections::BTreeSet<String>>| {
        keys.as_ref().map(|keys| keys.iter().cloned().collect())
    };
    StateSetRecord {
        all: set.all,
        lazy_members: set.lazy_members,
        types: set.types.iter().map(|(kind, of)| (kind.clone(), keys(of))).collect(),
        state_keys: set.state_keys.iter().cloned().collect(),
    }
}

fn config(record: ConfigRecord) -> RoomConfig {
    RoomConfig {
        timeline_limit: record.timeline_limit,
        required_state: required(record.required_state),
        old_rooms: record.old_rooms.map(|(timeline_limit, required_state)| {
            let required_state = required(required_state);
            Arc::new(RoomConfig { timeline_limit, required_state, ..RoomConfig::default() })
        }),
        include_heroes: record.include_heroes,
    }
}

fn required(record: RequiredRecord) -> RequiredState {
    let pattern = |(kind, state_key)| StatePattern { kind, state_key };
    let partial = |(included, excluded): (StateSetRecord, Vec<_>)| PartialState {
        included: set(included),
        excluded: excluded.into_iter().map(pattern).collect(),
    };
    RequiredState { partial: record.partial.into_iter().map(partial).collect(), ..set(record.set) }
}

fn set(record: StateSetRecord) -> RequiredState {
    let keys = |keys: Option<Vec<String>>| keys.map(|keys| keys.into_iter().collect());
    RequiredState {
        all: record.all,
        lazy_members: record.lazy_members,
        types: record.types.into_iter().map(|(kind, of)| (kind, keys(of))).collect(),
        state_keys: record.state_keys.into_iter().collect(),
        ..RequiredState::default()
    }
}

fn state_from(record: StateRecord, configs: &[Arc<RoomConfig>]) -> Option<State> {
    let rooms = record.rooms.into_iter();
    let rooms: Option<_> = rooms
        .map(|(room, sent)| Some((RoomNumber(room), Arc::new(room_from(sent, configs)?))))
        .collect();
    let scope = |(room, [account_data, receipts, typing]): (u32, [Option<u64>; 3])| {
        let sent = SentScope {
            account_data: account_data.map(Sequence),
            receipts: receipts.map(Sequence),
            typing: typing.map(Sequence),
        };
        (RoomNumber(room), sent)
    };
    Some(State {
        cursor: Sequence(record.cursor),
        rooms: rooms?,
        scopes: record.scopes.into_iter().map(scope).collect(),
        account_data: record.account_data.map(Sequence),
        device_lists: record.device_lists.map(Sequence),
        configs: configs.to_vec(),
        earlier: Arc::default(),
        covered: None,
        lists: record.lists.into_iter().map(list_from).collect(),
        sticky: match record.sticky {
            Some(sticky) => Some(Arc::new(serde_json::from_str(&sticky).ok()?)),
            None => None,
        },
    })
}

fn room_from(record: SentRoomRecord, configs: &[Arc<RoomConfig>]) -> Option<SentRoom> {
    let lazy_members: OrdSet<Arc<str>> = record.lazy_members.into_iter().map(Arc::from).collect();
    Some(SentRoom {
        cursor: Sequence(record.cursor),
        membership: record.membership,
        since: Sequence(record.since),
        config: Arc::clone(configs.get(record.config as usize)?),
        name: record.name,
        avatar: record.avatar,
        heroes: record.heroes,
        counts: record.counts,
        bump_stamp: record.bump_stamp,
        is_dm: record.is_dm,
        unread: record.unread,
        short_from: record.short_from,
        lazy_members,
        missing_members: OrdSet::new(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connection_comes_back_as_it_was() {
        let excluded = StatePattern { kind: Some("m.room.create".to_owned()), state_key: None };
        let required_state =
            RequiredState::from_pairs([("m.room.name", ""), ("*", "k")], "@a:x").union(
                &RequiredState::from_patterns([StatePattern::default()], [excluded].into(), true),
            );
        let old_rooms = Some(Arc::new(RoomConfig { timeline_limit: 1, ..RoomConfig::default() }));
        let config =
            RoomConfig { timeline_limit: 3, required_state, old_rooms, include_heroes: true };
        let config = Arc::new(config);
        let room = SentRoom {
            cursor: Sequence(9),
            membership: Membership::Join,
            since: Sequence(4),
            config: Arc::clone(&config),
            name: 1,
            avatar: 0,
            heroes: 7,
            counts: Some((2, 1)),
            bump_stamp: 99,
            is_dm: true,
            unread: (4, 1),
            short_from: 7,
            lazy_members: ["@a:x", "@b:x"].into_iter().map(Arc::from).collect(),
            missing_members: OrdSet::new(),
        };
        let mut state = State { cursor: Sequence(9), configs: vec![config], ..State::default() };
        state.rooms.insert(RoomNumber(3), Arc::new(room));
        state.scopes.insert(
            RoomNumber(3),
            SentScope { receipts: Some(Sequence(9)), ..SentScope::default() },
        );
        state.account_data = Some(Sequence(8));
        let list = SentList { kind: 6, runs: vec![(2, vec![RoomNumber(3), RoomNumber(1)])] };
        state.lists.insert("all".to_owned(), Arc::new(list));
        let mut request = crate::dialect::msc3575::parse(
            &[],
            br#"{"lists":{"all":{"ranges":[[0,1]],"sort":["by_name"]}},
                 "extensions":{"typing":{"enabled":true}}}"#,
            "@a:x",
            &crate::dialect::RequestLimits::default(),
        )
        .unwrap();
        request.settle(None).unwrap();
        state.sticky = request.sticky;
        for acknowledged in [None, Some((10, state.clone()))] {
            let connection = Connection {
                number: 5,
                acknowledged,
                provisional: vec![(11, state.clone())],
                used_ms: 77,
            };
            assert_eq!(
                ConnectionRecord::decode(&ConnectionRecord::encode(&connection)),
                Some(connection)
            );
        }
        assert_eq!(ConnectionRecord::decode(b"not an archive"), None);
    }
}
