//! The ways in which Bob can stand to Alice's room, told to Luge step by step.

use serde_json::{Value, json};

use crate::{
    events::{ALICE, BOB, beginning, gap, invited, joined_with, left, made, member, message},
    town::{DORA, ROOM, Town},
};

/// How Bob stands to the room.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// In it.
    Member,
    /// Never heard of it.
    Stranger,
    Invited,
    Knocked,
    /// Has declined an invite.
    Declined,
    /// Was invited until Alice thought better of it.
    Uninvited,
    /// Banned without ever having been there.
    BannedStranger,
    /// Banned while invited.
    BannedInvited,
    Left,
    Kicked,
    Banned,
    /// Kicked, of which Alice's device alone has told.
    KickedUnawares,
    /// Kicked, of which a block of state behind a gap tells.
    KickedInGap,
    /// Kicked, of which nobody has told: a gap hides it from Alice's device, until
    /// Bob's tells after everything.
    KickedUntold,
    /// Has left, and been invited again.
    InvitedAgain,
    /// Has left, and forgotten the room.
    Forgot,
    /// Joins after everything.
    Newcomer,
    /// Was there before, and comes back after everything.
    Returned,
    /// Has left and come back where a gap hid it, and is banned after everything:
    /// Alice's device tells of all that first.
    BannedOnReturn,
}

impl Relation {
    /// Those in which nothing of what happens may be learnt.
    pub(crate) const OUTSIDE: [Self; 15] = [
        Self::Stranger,
        Self::Invited,
        Self::Knocked,
        Self::Declined,
        Self::Uninvited,
        Self::BannedStranger,
        Self::BannedInvited,
        Self::Left,
        Self::Kicked,
        Self::Banned,
        Self::KickedUnawares,
        Self::KickedInGap,
        Self::KickedUntold,
        Self::InvitedAgain,
        Self::Forgot,
    ];

    /// Those in which no history may be learnt.
    pub(crate) const LATER: [Self; 3] = [Self::Newcomer, Self::Returned, Self::BannedOnReturn];

    /// Whether Bob has never been in the room.
    pub(crate) fn is_never_there(self) -> bool {
        !matches!(
            self,
            Self::Member
                | Self::Left
                | Self::Kicked
                | Self::Banned
                | Self::KickedUnawares
                | Self::KickedInGap
                | Self::KickedUntold
                | Self::InvitedAgain
                | Self::Forgot
                | Self::Newcomer
                | Self::Returned
                | Self::BannedOnReturn
        )
    }

    /// How it begins.
    pub(crate) fn begin(self, town: &mut Town) {
        match self {
            Self::Stranger | Self::BannedStranger | Self::Newcomer => {}
            Self::Invited | Self::Declined | Self::Uninvited | Self::BannedInvited => invite(town),
            Self::Knocked => knock(town),
            _ => join(town, "$in"),
        }
    }

    /// What becomes of it before anything else happens.
    pub(crate) fn go_on(self, town: &mut Town) {
        let leave = || member("$out", BOB, "leave");
        match self {
            Self::Member | Self::Stranger | Self::Invited | Self::Knocked | Self::Newcomer => {}
            Self::Declined | Self::Left | Self::Returned => end(town, leave(), true),
            Self::Uninvited | Self::Kicked => end(town, made("$out", ALICE, BOB, "leave"), true),
            Self::BannedStranger | Self::BannedInvited | Self::Banned => {
                end(town, made("$out", ALICE, BOB, "ban"), true);
            }
            Self::KickedUnawares => end(town, made("$out", ALICE, BOB, "leave"), false),
            Self::KickedInGap => {
                let kick = made("$out", ALICE, BOB, "leave");
                town.alice_hears(gap(ROOM, &[kick], &[message("$gap", DORA)], "p"));
            }
            Self::KickedUntold => town.happens_later(&[message("$gap", DORA)], "p"),
            Self::BannedOnReturn => {
                let events = [message("$gap", DORA), after("leave", member("$again", BOB, "join"))];
                town.alice_hears(gap(ROOM, &[], &events, "p"));
            }
            Self::InvitedAgain => {
                end(town, leave(), true);
                invite(town);
            }
            Self::Forgot => {
                end(town, leave(), true);
                let bob = town.bob.clone();
                town.luge.forget(&bob, ROOM);
            }
        }
    }

    /// What becomes of it after everything.
    pub(crate) fn end(self, town: &mut Town) {
        match self {
            // His poller goes on, and has nothing else to tell.
            Self::Member => [(); 2].iter().for_each(|()| town.bob_hears(json!({}))),
            Self::KickedUntold => {
                town.bob_hears(left(ROOM, &[made("$out", ALICE, BOB, "leave")]));
            }
            Self::Newcomer | Self::Returned => join(town, "$in-later"),
            Self::BannedOnReturn => {
                let ban = after("join", made("$out", ALICE, BOB, "ban"));
                let events = [message("$in-later-hello", DORA), ban];
                town.alice_hears(joined(&events));
                let mut answer = left(ROOM, &events);
                answer["rooms"]["leave"][ROOM]["timeline"]["limited"] = true.into();
                town.bob_hears(answer);
            }
            _ => {}
        }
    }
}

/// A member event that says what the membership was before.
fn after(before: &str, mut event: Value) -> Value {
    event["unsigned"] = json!({"prev_content": {"membership": before}});
    event
}

fn invite(town: &mut Town) {
    town.alice_hears(joined(&[made("$invite", ALICE, BOB, "invite")]));
    town.bob_hears(invited(ROOM, ALICE, BOB));
}

fn knock(town: &mut Town) {
    town.alice_hears(joined(&[member("$knock", BOB, "knock")]));
    let own = json!({
        "type": "m.room.member", "state_key": BOB, "sender": BOB,
        "content": {"membership": "knock"},
    });
    town.bob_hears(json!({"rooms": {"knock": {ROOM: {"knock_state": {"events": [own]}}}}}));
}

/// Bob joins, is given nothing from before that, and hears something.
fn join(town: &mut Town, id: &str) {
    let events = [member(id, BOB, "join"), message(&format!("{id}-hello"), DORA)];
    town.alice_hears(joined(&events));
    let more = json!({
        "timeline": {"limited": true},
        "state": {"events": beginning("$r", &[ALICE, DORA])},
    });
    town.bob_hears(joined_with(ROOM, &events, more));
}

fn end(town: &mut Town, event: Value, bob_is_told: bool) {
    town.alice_hears(joined(std::slice::from_ref(&event)));
    if bob_is_told {
        town.bob_hears(left(ROOM, &[event]));
    }
}

fn joined(events: &[Value]) -> Value {
    crate::events::joined(ROOM, events)
}
