//! What users should see: which rooms their lists have, in which order, and what
//! the rooms are called.

use std::{cmp::Reverse, collections::BTreeSet};

use luge_core::{name, request::Dialect};

use crate::{
    account,
    client::Connection,
    homeserver::{Homeserver, Is, Room},
    wanted::ListWanted,
};

/// Whether a list should have a room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Listed {
    Yes,
    No,
    /// What the homeserver told may not say.
    Perhaps,
}

impl Homeserver {
    /// Whether a list of `connection`'s should have a room.
    pub(crate) fn listed(
        &self,
        connection: &Connection,
        list: &ListWanted,
        number: usize,
    ) -> Listed {
        let room = &self.rooms[number];
        let user = connection.user;
        let is = room.membership(user);
        // Who never was a member may be banned without learning of it, and
        // who left may have done so before the connection began.
        let mut listed = match is {
            Some(Is::Join | Is::Invite) => Listed::Yes,
            None | Some(Is::Leave) => Listed::No,
            Some(Is::Kick | Is::Ban) if connection.dialect == Dialect::Msc3575 => Listed::No,
            Some(Is::Kick | Is::Ban) => Listed::Perhaps,
        };
        let filters = &list.filters;
        let joined = is == Some(Is::Join);
        let mut passes = |wanted: Option<bool>, is: Option<bool>| match (wanted, is) {
            (Some(wanted), Some(is)) if wanted != is => listed = Listed::No,
            (Some(_), None) if listed == Listed::Yes => listed = Listed::Perhaps,
            _ => {}
        };
        let direct = self.users[user].account_data.get("m.direct");
        let is_dm = direct.is_some_and(|(_, value)| account::is_direct(*value, number));
        passes(filters.is_dm, Some(is_dm));
        passes(filters.is_invite, Some(is == Some(Is::Invite)));
        // Of an invite the stripped state is known, which does not say so; what
        // became of a room that was left is not told any more.
        let is_encrypted = match is {
            Some(Is::Join) => Some(room.current("m.room.encryption", "").is_some()),
            Some(Is::Invite) => Some(false),
            _ => None,
        };
        passes(filters.is_encrypted, is_encrypted);
        let has_tag = |tag| {
            let tags = room.account_data.get(&(user, "m.tag".to_owned()));
            let has = tags.is_some_and(|(_, value)| account::has_tag(*value, tag));
            joined.then_some(has)
        };
        passes(filters.tag.map(|_| true), filters.tag.and_then(has_tag));
        passes(filters.not_tag.map(|_| false), filters.not_tag.and_then(has_tag));
        let name = room.name();
        let is_like = |like: &str| joined && name.as_ref().is_some_and(|name| name.contains(like));
        passes(filters.name_like.map(|_| true), filters.name_like.map(is_like));
        listed
    }
}

impl Room {
    /// `m.room.name`.
    pub(crate) fn name(&self) -> Option<String> {
        self.value_of("m.room.name")
    }

    /// `m.room.avatar`.
    pub(crate) fn avatar(&self) -> Option<String> {
        self.value_of("m.room.avatar").map(|value| format!("mxc://x/{value}"))
    }

    fn value_of(&self, kind: &'static str) -> Option<String> {
        let value = self.current(kind, "").map(|event| event.value.clone());
        value.filter(|value| !value.is_empty())
    }

    /// Those but `user` who are or are asked to be there.
    pub(crate) fn others(&self, user: usize) -> BTreeSet<usize> {
        let is_there = |is| matches!(is, Some(Is::Join | Is::Invite));
        let others = self.members.keys().filter(|other| **other != user);
        others.filter(|other| is_there(self.membership(**other))).copied().collect()
    }
}

/// Those whom a computed name is made of.
pub(crate) fn people_of(name: &str) -> BTreeSet<usize> {
    let words = name.split([' ', ',', '(', ')']);
    let user = |word: &str| match word.strip_prefix('@') {
        Some(id) => id.strip_prefix('u')?.split_once(':')?.0.parse().ok(),
        None => word.strip_prefix('n')?.split_once('u')?.1.parse().ok(),
    };
    words.filter_map(user).collect()
}

/// The joined rooms of an MSC3575 list in their order, where `recency` is the
/// order of their last events.
pub(crate) fn sorted(
    homeserver: &Homeserver,
    connection: &Connection,
    list: &ListWanted,
    recency: &[usize],
) -> Vec<usize> {
    let mut rooms = recency.to_vec();
    rooms.sort_by_cached_key(|room| {
        let of = &homeserver.rooms[*room];
        let unread = of.unread.get(&connection.user).copied().unwrap_or(0);
        let is_encrypted = of.current("m.room.encryption", "").is_some();
        let held = connection.rooms[room].name.as_deref().unwrap_or_default();
        // What follows on the order of the last events decides nothing more.
        let sorts = list.sort.iter().take_while(|sort| **sort != "by_recency");
        let key = |sort: &&str| match *sort {
            "by_name" => (Reverse(0), name::sorted_by(held)),
            "by_notification_count" => (Reverse(unread), String::new()),
            "by_notification_level" if unread > 0 => {
                (Reverse(1 + u64::from(is_encrypted)), String::new())
            }
            _ => (Reverse(0), String::new()),
        };
        sorts.map(key).collect::<Vec<_>>()
    });
    rooms
}

/// Members whom a room without a name is named after.
const NAMED_MAX: usize = 5;

/// Whether a name is the one that a room should have.
pub(crate) fn is_name_of(room: &Room, user: usize, name: &str) -> bool {
    if let Some(given) = room.name() {
        return given == name;
    }
    let others = room.others(user);
    if others.is_empty() {
        return name.starts_with("Empty Room");
    }
    let more = format!(" and {} others", others.len().saturating_sub(NAMED_MAX));
    are_named(&people_of(name), &others) && (others.len() <= NAMED_MAX || name.ends_with(&more))
}

/// Whether these are those of `others` whom a room without a name is named after.
pub(crate) fn are_named(named: &BTreeSet<usize>, others: &BTreeSet<usize>) -> bool {
    named.is_subset(others) && named.len() == others.len().min(NAMED_MAX)
}
