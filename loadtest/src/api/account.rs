//! The endpoints that concern one account: logins, profile-like data, keys, to-device messages.

use serde_json::{Value, json};

use super::{Call, Handled, Request, required, unrecognized};
use crate::model::{Homeserver, Refusal};

impl Homeserver {
    pub(super) fn versions(&self) -> Handled {
        let stable: Vec<String> = (1..=12).map(|minor| format!("v1.{minor}")).collect();
        Handled::Json(json!({
            "versions": stable,
            "unstable_features": {"org.matrix.msc4222": self.options.state_after},
        }))
    }

    pub(super) fn well_known(&self) -> Handled {
        Handled::Json(json!({"m.homeserver": {"base_url": self.base_url}}))
    }

    pub(super) fn login(&mut self, request: &Request) -> Result<Value, Refusal> {
        match request.method.as_str() {
            "GET" => return Ok(json!({"flows": [{"type": "m.login.password"}]})),
            "POST" => {}
            _ => return Err(Refusal::new(405, "M_UNRECOGNIZED", "Unrecognized request")),
        }
        let body = request.json()?;
        if required(&body, "type")? != "m.login.password" {
            return Err(Refusal::new(400, "M_UNKNOWN", "Unknown login type"));
        }
        let named = body["identifier"]["user"].as_str().or_else(|| body["user"].as_str());
        let named = named.ok_or_else(|| {
            Refusal::new(400, "M_MISSING_PARAM", "Missing params: ['identifier']")
        })?;
        let user_id = if named.starts_with('@') {
            named.to_owned()
        } else {
            format!("@{named}:{}", self.server_name)
        };
        let wrong = || Refusal::forbidden("Invalid username or password");
        let user = self.users.get(&user_id).ok_or_else(wrong)?;
        if user.password != required(&body, "password")? {
            return Err(wrong());
        }
        let session = self.log_in(&user_id, body["device_id"].as_str()).ok_or_else(wrong)?;
        Ok(json!({
            "user_id": session.user_id,
            "access_token": session.access_token,
            "device_id": session.device_id,
            "home_server": self.server_name,
            "well_known": {"m.homeserver": {"base_url": self.base_url}},
        }))
    }

    pub(super) fn route_account(
        &mut self,
        call: &Call<'_>,
        segments: &[&str],
    ) -> Result<Value, Refusal> {
        let user_id = call.owner.user_id.clone();
        match (call.method, segments) {
            ("GET", ["account", "whoami"]) => Ok(json!({
                "user_id": user_id, "device_id": call.owner.device_id, "is_guest": false,
            })),
            ("POST", ["logout"]) => {
                self.log_out(&[call.owner.device_id.as_str()], &user_id);
                Ok(json!({}))
            }
            ("POST", ["logout", "all"]) => {
                let user = self.users.get(&user_id);
                let devices: Vec<String> =
                    user.into_iter().flat_map(|user| user.devices.keys().cloned()).collect();
                let devices: Vec<&str> = devices.iter().map(String::as_str).collect();
                self.log_out(&devices, &user_id);
                Ok(json!({}))
            }
            ("GET", ["capabilities"]) => Ok(
                json!({"capabilities": {"m.room_versions": {"default": "10", "available": {"10": "stable"}}}}),
            ),
            ("GET", ["pushrules", ..]) => Ok(self.account_data(&user_id, "m.push_rules")?.clone()),
            ("GET", ["profile", other, ..]) => self.profile(other),
            ("PUT", ["profile", other, "displayname"]) => {
                own(other, &user_id)?;
                let body = call.request.json()?;
                self.set_display_name(&user_id, required(&body, "displayname")?, call.now);
                Ok(json!({}))
            }
            ("POST", ["keys", "upload"]) => self.upload_keys(call),
            ("POST", ["keys", "query"]) => Ok(json!({
                "device_keys": {}, "failures": {}, "master_keys": {}, "self_signing_keys": {},
                "user_signing_keys": {},
            })),
            ("PUT", ["sendToDevice", kind, transaction_id]) => {
                self.put_to_device(call, kind, transaction_id)
            }
            (_, ["user", other, rest @ ..]) => {
                own(other, &user_id)?;
                self.route_user(call, rest)
            }
            _ => Err(unrecognized()),
        }
    }

    fn route_user(&mut self, call: &Call<'_>, segments: &[&str]) -> Result<Value, Refusal> {
        let user_id = call.owner.user_id.as_str();
        let missing = || Refusal::not_found("Account data not found");
        match (call.method, segments) {
            ("POST", ["filter"]) => self.store_filter(user_id, &call.request.json()?),
            ("GET", ["account_data", kind]) => Ok(self.account_data(user_id, kind)?.clone()),
            ("PUT", ["account_data", kind]) => {
                self.set_account_data(user_id, kind, call.request.json()?);
                Ok(json!({}))
            }
            ("GET", ["rooms", room_id, "account_data", kind]) => {
                let room = self.users.get(user_id).and_then(|user| user.rooms.get(*room_id));
                let data =
                    room.and_then(|room| room.account_data.get(*kind)).ok_or_else(missing)?;
                Ok(data.1.clone())
            }
            ("PUT", ["rooms", room_id, "account_data", kind]) => {
                self.set_room_account_data(user_id, room_id, kind, call.request.json()?);
                Ok(json!({}))
            }
            ("PUT" | "DELETE", ["rooms", room_id, "tags", tag]) => {
                let room = self.users.get(user_id).and_then(|user| user.rooms.get(*room_id));
                let present = room.and_then(|room| room.account_data.get("m.tag"));
                let mut tags = present
                    .map(|(_, content)| content.clone())
                    .filter(|content| content["tags"].is_object())
                    .unwrap_or_else(|| json!({"tags": {}}));
                if call.method == "PUT" {
                    tags["tags"][*tag] = call.request.json()?;
                } else if let Some(tags) = tags["tags"].as_object_mut() {
                    tags.remove(*tag);
                }
                self.set_room_account_data(user_id, room_id, "m.tag", tags);
                Ok(json!({}))
            }
            _ => Err(unrecognized()),
        }
    }

    fn store_filter(&mut self, user_id: &str, filter: &Value) -> Result<Value, Refusal> {
        if !self.options.stores_filters {
            return Err(unrecognized());
        }
        let user = self.users.get_mut(user_id).ok_or_else(unrecognized)?;
        let filter = filter.to_string();
        // The same filter is stored once, as by Synapse.
        let place = user.filters.iter().position(|it| *it == filter).unwrap_or_else(|| {
            user.filters.push(filter);
            user.filters.len() - 1
        });
        Ok(json!({"filter_id": place.to_string()}))
    }

    /// Loses every filter that was stored.
    pub fn forget_filters(&mut self) {
        self.users.values_mut().for_each(|user| user.filters.clear());
    }

    fn account_data(&self, user_id: &str, kind: &str) -> Result<&Value, Refusal> {
        let user = self.users.get(user_id);
        user.and_then(|user| user.account_data.get(kind))
            .map(|(_, content)| content)
            .ok_or_else(|| Refusal::not_found("Account data not found"))
    }

    fn profile(&self, user_id: &str) -> Result<Value, Refusal> {
        let user =
            self.users.get(user_id).ok_or_else(|| Refusal::not_found("Profile was not found"))?;
        let mut profile = json!({"displayname": user.display_name});
        if let Some(url) = &user.avatar_url {
            profile["avatar_url"] = url.as_str().into();
        }
        Ok(profile)
    }

    fn log_out(&mut self, devices: &[&str], user_id: &str) {
        let tokens: Vec<String> = self
            .tokens
            .iter()
            .filter(|(_, owner)| {
                owner.user_id == user_id
                    && owner.refused.is_none()
                    && devices.contains(&owner.device_id.as_str())
            })
            .map(|(token, _)| token.clone())
            .collect();
        for token in tokens {
            self.refuse_token(&token, false);
        }
    }

    fn upload_keys(&mut self, call: &Call<'_>) -> Result<Value, Refusal> {
        let body = call.request.json()?;
        if body["device_keys"].is_object() {
            self.change_devices(&call.owner.user_id);
        }
        let algorithm = |key: &String| key.split(':').next().unwrap_or_default().to_owned();
        let Some(device) = self.device_mut(&call.owner.user_id, &call.owner.device_id) else {
            return Err(unrecognized());
        };
        if let Some(keys) = body["one_time_keys"].as_object() {
            for key in keys.keys() {
                *device.one_time_keys.entry(algorithm(key)).or_default() += 1;
            }
        }
        if let Some(keys) = body["fallback_keys"].as_object() {
            device.fallback_keys = keys.keys().map(algorithm).collect();
            device.fallback_keys.dedup();
        }
        Ok(json!({"one_time_key_counts": device.one_time_keys}))
    }

    fn put_to_device(
        &mut self,
        call: &Call<'_>,
        kind: &str,
        transaction_id: &str,
    ) -> Result<Value, Refusal> {
        let key = format!("sendToDevice/{kind}/{transaction_id}");
        if self.transaction(&call.owner, &key).is_some() {
            return Ok(json!({}));
        }
        let body = call.request.json()?;
        let messages = body["messages"]
            .as_object()
            .ok_or_else(|| Refusal::new(400, "M_MISSING_PARAM", "Missing params: ['messages']"))?;
        for (user_id, devices) in messages {
            for (device_id, content) in devices.as_object().into_iter().flatten() {
                let target = (user_id.as_str(), device_id.as_str());
                self.send_to_device(&call.owner.user_id, kind, target, content);
            }
        }
        self.remember_transaction(&call.owner, &key, "");
        Ok(json!({}))
    }
}

fn own(named: &str, user_id: &str) -> Result<(), Refusal> {
    if named == user_id {
        return Ok(());
    }
    Err(Refusal::forbidden("Cannot act for another user"))
}
