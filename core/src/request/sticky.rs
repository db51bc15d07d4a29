//! MSC3575's sticky parameters: what a connection has asked for stays asked for
//! until it says otherwise.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use serde::{Deserialize, Serialize};

use super::{
    Extensions, Filters, ListRequest, Request, RequiredState, RoomConfig, Scope, SharedConfigs,
    SizeLimits, Sort, ToDevice,
};
use crate::dialect::RequestError;

/// What a connection asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sticky {
    lists: BTreeMap<String, ListRequest>,
    subscriptions: BTreeMap<String, Arc<RoomConfig>>,
    extensions: BTreeMap<ExtensionName, ExtensionChange>,
}

/// What a request changes of it.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Changes {
    /// Given back with the response that was computed with these changes.
    pub txn_id: Option<String>,
    /// Tells requests apart, transaction ids aside.
    pub digest: u64,
    /// Lists, by key.
    pub lists: Vec<(String, ListChange)>,
    /// Rooms that are subscribed to, whatever was asked of them before.
    pub subscriptions: Vec<(String, Arc<RoomConfig>)>,
    /// Rooms that are no longer subscribed to.
    pub unsubscriptions: Vec<String>,
    /// Extensions.
    pub extensions: Vec<(ExtensionName, ExtensionChange)>,
    /// Lists that a connection may have.
    pub lists_max: usize,
    /// Subscriptions that a connection may have; those beyond are ignored.
    pub subscriptions_max: usize,
    /// Bytes that all of it may take, written down.
    pub sticky_bytes_max: usize,
    /// What it may come to in all.
    pub size: SizeLimits,
}

/// What changes of a list; `None` for what does not.
#[derive(Clone, Debug, Default, PartialEq)]
#[expect(missing_docs, reason = "the fields mean what they mean in a list's request")]
pub struct ListChange {
    /// Whether the list is gone.
    pub deleted: bool,
    pub ranges: Option<Vec<(u64, u64)>>,
    pub timeline_limit: Option<u64>,
    pub required_state: Option<RequiredState>,
    pub old_rooms: Option<RoomConfig>,
    pub include_heroes: Option<bool>,
    pub filters: Option<Filters>,
    pub sort: Option<Vec<Sort>>,
    pub bump_event_types: Option<BTreeSet<String>>,
    pub slow_get_all_rooms: Option<bool>,
}

/// The extensions by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the names say which")]
pub enum ExtensionName {
    ToDevice,
    E2ee,
    AccountData,
    Receipts,
    Typing,
}

impl ExtensionName {
    /// Every extension, with its name on the wire.
    pub const ALL: [(Self, &'static str); 5] = [
        (Self::ToDevice, "to_device"),
        (Self::E2ee, "e2ee"),
        (Self::AccountData, "account_data"),
        (Self::Receipts, "receipts"),
        (Self::Typing, "typing"),
    ];
}

/// What is said of an extension; `None` for what is not. `*` in a scope stands
/// for everything.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[expect(missing_docs, reason = "the fields mean what they mean in an extension's request")]
pub struct ExtensionChange {
    pub enabled: Option<bool>,
    pub lists: Option<BTreeSet<String>>,
    pub rooms: Option<BTreeSet<String>>,
    pub since: Option<String>,
    pub limit: Option<u64>,
}

/// A list without ranges is of all rooms.
const ALL: (u64, u64) = (0, u64::MAX);
/// Messages of one answer, where a client has never said how many.
const TO_DEVICE_LIMIT: u64 = 100;

impl Request {
    /// Makes the request whole: what `before` asked for and what this one
    /// changes of it.
    ///
    /// # Errors
    /// Where both come to more than a connection may ask for.
    pub fn settle(&mut self, before: Option<&Arc<Sticky>>) -> Result<(), RequestError> {
        let Some(changes) = &self.changes else { return Ok(()) };
        let kept = before.filter(|_| changes.is_empty()).map(Arc::clone);
        let (is_new, size) = (kept.is_none(), changes.size);
        let sticky = if let Some(kept) = kept {
            kept
        } else {
            let mut sticky = before.map(|before| (**before).clone()).unwrap_or_default();
            sticky.take_in(changes)?;
            Arc::new(sticky)
        };
        self.lists = sticky.lists.clone().into_iter().collect();
        self.subscriptions = sticky.subscriptions.clone().into_iter().collect();
        self.extensions = Arc::new(sticky.extensions());
        self.sticky = Some(sticky);
        if is_new { self.check_size(size) } else { Ok(()) }
    }
}

impl Changes {
    fn is_empty(&self) -> bool {
        self.lists.is_empty()
            && self.subscriptions.is_empty()
            && self.unsubscriptions.is_empty()
            && self.extensions.is_empty()
    }
}

impl Sticky {
    fn take_in(&mut self, changes: &Changes) -> Result<(), RequestError> {
        for (key, change) in &changes.lists {
            if change.deleted {
                self.lists.remove(key);
                continue;
            }
            let list = self.lists.entry(key.clone()).or_insert_with(|| ListRequest {
                ranges: vec![ALL],
                sort: vec![Sort::Recency],
                ..ListRequest::default()
            });
            change.apply(list);
        }
        if self.lists.len() > changes.lists_max {
            let problem = format!("has more than {} lists", changes.lists_max);
            return Err(RequestError::invalid("lists", problem));
        }
        for (room_id, config) in &changes.subscriptions {
            let is_known = self.subscriptions.contains_key(room_id);
            if is_known || self.subscriptions.len() < changes.subscriptions_max {
                self.subscriptions.insert(room_id.clone(), config.clone());
            }
        }
        for room_id in &changes.unsubscriptions {
            self.subscriptions.remove(room_id);
        }
        for (name, change) in &changes.extensions {
            let settings = self.extensions.entry(*name).or_default();
            let ExtensionChange { enabled, lists, rooms, since, limit } = change.clone();
            settings.enabled = enabled.or(settings.enabled);
            settings.lists = lists.or(settings.lists.take());
            settings.rooms = rooms.or(settings.rooms.take());
            settings.since = since.or(settings.since.take());
            settings.limit = limit.or(settings.limit);
        }
        let mut shared = SharedConfigs::default();
        for config in self.subscriptions.values_mut() {
            *config = shared.share(Arc::clone(config));
        }
        let bytes = serde_json::to_vec(self).map_or(usize::MAX, |written| written.len());
        if bytes > changes.sticky_bytes_max {
            let problem = format!(
                "comes, with what the connection asked for before, to more than {} bytes",
                changes.sticky_bytes_max
            );
            return Err(RequestError::invalid("the request", problem));
        }
        Ok(())
    }

    fn extensions(&self) -> Extensions {
        let on = |name| self.extensions.get(&name).filter(|it| it.enabled == Some(true));
        let scope = |name| {
            let all = |names: &BTreeSet<String>| names.contains("*");
            let axis = |names: &Option<BTreeSet<String>>| names.clone().filter(|it| !all(it));
            on(name).map(|it| Scope { lists: axis(&it.lists), rooms: axis(&it.rooms) })
        };
        Extensions {
            to_device: on(ExtensionName::ToDevice).map(|it| ToDevice {
                since: it.since.clone(),
                limit: it.limit.unwrap_or(TO_DEVICE_LIMIT),
            }),
            e2ee: on(ExtensionName::E2ee).is_some(),
            account_data: scope(ExtensionName::AccountData),
            receipts: scope(ExtensionName::Receipts),
            typing: scope(ExtensionName::Typing),
        }
    }
}

impl ListChange {
    fn apply(&self, list: &mut ListRequest) {
        fn set<T: Clone>(to: &mut T, from: Option<&T>) {
            if let Some(from) = from {
                *to = from.clone();
            }
        }
        set(&mut list.ranges, self.ranges.as_ref());
        let config = Arc::make_mut(&mut list.config);
        set(&mut config.timeline_limit, self.timeline_limit.as_ref());
        set(&mut config.required_state, self.required_state.as_ref());
        set(&mut config.include_heroes, self.include_heroes.as_ref());
        if let Some(old_rooms) = &self.old_rooms {
            config.old_rooms = Some(Arc::new(old_rooms.clone()));
        }
        set(&mut list.filters, self.filters.as_ref());
        set(&mut list.sort, self.sort.as_ref());
        if self.bump_event_types.is_some() {
            list.bump_event_types.clone_from(&self.bump_event_types);
        }
        set(&mut list.slow_get_all_rooms, self.slow_get_all_rooms.as_ref());
    }
}
