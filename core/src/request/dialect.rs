//! The protocols that Luge speaks, and the rules that differ between them: each
//! rule in one function here, asked by the code that is common to all.

use crate::{record::Membership, user::UserRoom};

/// Which of the protocols a request speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dialect {
    /// `org.matrix.simplified_msc3575`, as Synapse serves it.
    Simplified,
    /// MSC4186 as accepted.
    V4,
    /// MSC3575, as the older proxy served it.
    Msc3575,
}

impl Dialect {
    /// The name under which a connection is kept: the same `conn_id` in another
    /// dialect is another connection.
    pub fn connection_name(self, conn_id: &str) -> String {
        match self {
            Self::Simplified => conn_id.to_owned(),
            Self::V4 => format!("v4\0{conn_id}"),
            Self::Msc3575 => format!("msc3575\0{conn_id}"),
        }
    }

    /// Whether there are rooms in the user's order that are in no list.
    pub fn hides_rooms(self) -> bool {
        self != Self::Simplified
    }

    /// Whether a room that the user has a relation to can be in lists. Rooms
    /// that they left by themselves are decided by what the connection was told.
    pub fn lists(self, of_user: &UserRoom) -> bool {
        match self {
            Self::Simplified => true,
            // Who was never in the room learns nothing from being kept out.
            Self::V4 => of_user.membership != Membership::Ban || of_user.was_joined(),
            Self::Msc3575 => matches!(of_user.membership, Membership::Join | Membership::Invite),
        }
    }

    /// Whether an entry names the lists that the room is in.
    pub fn tells_of_lists(self) -> bool {
        self == Self::V4
    }

    /// Whether an entry says itself what the user's membership is. Else the
    /// user's member event does, and without one nothing is said of an end: a
    /// client would take the room for joined.
    pub fn tells_of_membership(self) -> bool {
        self == Self::V4
    }

    /// Whether an entry is due because the room became a direct chat, or ceased
    /// to be one.
    pub fn tells_of_direct_chats(self) -> bool {
        self == Self::V4
    }

    /// Whether somebody who declined, or was declined, is told so in stripped
    /// state instead of the state of a room that they never were in.
    pub fn strips_declined(self) -> bool {
        self == Self::V4
    }

    /// Whether a client forgets who is typing in a room that leaves the scope
    /// of the extension, so that it is told again when the room comes back.
    pub fn forgets_typing_out_of_scope(self) -> bool {
        self == Self::V4
    }

    /// Whether the rooms of an extension's scope, where it names none, are the
    /// subscribed ones alone and not also those of every list.
    pub fn scopes_by_subscription(self) -> bool {
        self != Self::Simplified
    }

    /// Whether a room that the user has left stays in lists until the connection
    /// has learnt of it. Else its end is told without any list.
    pub fn lists_left_rooms(self) -> bool {
        self != Self::Msc3575
    }

    /// Whether a room whose successor the user has joined is in no list.
    pub fn hides_old_rooms(self) -> bool {
        self == Self::Msc3575
    }

    /// Whether the server gives rooms their names, and direct chats the avatar
    /// of who they are with.
    pub fn names_rooms(self) -> bool {
        self == Self::Msc3575
    }

    /// Whether an entry of the state that is gone is told by a stub of it. Else
    /// the room is sent again as new.
    pub fn tells_of_removed_state(self) -> bool {
        self == Self::V4
    }

    /// Whether an entry is due because unread counts changed, also of a room
    /// that is no longer in any window.
    pub fn tells_of_unread(self) -> bool {
        self == Self::Msc3575
    }

    /// Whether a room is sent as new, with what is wanted more of it alone,
    /// where more is wanted of it.
    pub fn sends_anew_for_more(self) -> bool {
        self == Self::Msc3575
    }

    /// Whether those who name a room are told only to who asks for them.
    pub fn asks_for_heroes(self) -> bool {
        self == Self::Msc3575
    }

    /// Whether responses form one order, in which the client takes them in: a
    /// request adds to it, and is answered with the first that the client lacks.
    pub fn keeps_responses(self) -> bool {
        self == Self::Msc3575
    }
}
