//! What a client keeps of the extensions.

use luge_core::request::Dialect;
use serde_json::Value;

use crate::{
    client::Connection,
    homeserver::{room_of, user_id},
    wanted::extension_name,
};

impl Connection {
    /// Takes in the extensions of an answer.
    pub(crate) fn extensions(&mut self, extensions: &Value) {
        if let Some(to_device) = extensions.get("to_device") {
            self.messages(to_device);
        }
        let lists = &extensions["e2ee"]["device_lists"];
        for (key, left) in [("changed", false), ("left", true)] {
            for user in lists[key].as_array().into_iter().flatten() {
                self.told.insert(number(user), left);
            }
        }
        self.data(&extensions["account_data"]);
        let typing = &extensions[extension_name(self.dialect, "typing")];
        for (room, event) in typing["rooms"].as_object().into_iter().flatten() {
            let users = event["content"]["user_ids"].as_array().expect("user ids");
            let users = users.iter().filter_map(Value::as_str).map(str::to_owned);
            self.typing.insert(room_of(room), users.collect());
        }
        for (room, event) in extensions["receipts"]["rooms"].as_object().into_iter().flatten() {
            self.receipts(room_of(room), &event["content"]);
        }
    }

    fn messages(&mut self, to_device: &Value) {
        for event in to_device["events"].as_array().expect("events") {
            let number = event["content"]["number"].as_u64().expect("a number");
            // Answers that come in order may have been made before the client
            // took in the one before.
            let again = self.dialect == Dialect::Msc3575 && number < self.received;
            assert!(again || number == self.received, "each message comes once and in order");
            self.received = self.received.max(number + 1);
        }
        self.since = to_device["next_batch"].as_str().map(str::to_owned);
    }

    fn data(&mut self, account_data: &Value) {
        let value = |event: &Value| {
            let kind = event["type"].as_str().expect("a type").to_owned();
            (kind, event["content"]["value"].as_u64().expect("a value"))
        };
        let global = account_data["global"].as_array();
        self.account_data.extend(global.into_iter().flatten().map(value));
        for (room, events) in account_data["rooms"].as_object().into_iter().flatten() {
            for event in events.as_array().into_iter().flatten() {
                let (kind, value) = value(event);
                self.room_account_data.insert((room_of(room), kind), value);
            }
        }
    }

    fn receipts(&mut self, room: usize, content: &Value) {
        let own = user_id(self.user);
        for (event_id, kinds) in content.as_object().into_iter().flatten() {
            for (kind, users) in kinds.as_object().into_iter().flatten() {
                let private = kind == "m.read.private";
                for user in users.as_object().into_iter().flatten().map(|(user, _)| user) {
                    assert!(!private || *user == own, "another's private receipt");
                    if *user == own {
                        self.own_receipts.insert((room, private), event_id.clone());
                    }
                }
            }
        }
    }
}

fn number(user: &Value) -> usize {
    let user_id = user.as_str().expect("a user id");
    user_id[2..].split_once(':').expect("a user id").0.parse().expect("a number")
}
