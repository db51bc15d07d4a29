//! Reading filters and extensions, which the dialects have in common but for
//! names.

use std::collections::BTreeSet;

use serde_json::Value;

use super::{
    RequestError,
    body::{
        Object, Result, optional_array, optional_bool, optional_object, optional_string,
        optional_strings,
    },
};
use crate::request::{Extensions, Filters, Scope, ToDevice};

/// What the dialects name differently.
pub(super) struct Names {
    /// The filter for invites.
    pub(super) is_invite: &'static str,
    /// The typing extension.
    pub(super) typing: &'static str,
    /// Whether there is a filter for replaced rooms.
    pub(super) tombstones: bool,
    /// Whether `*` in an extension's scope stands for everything.
    pub(super) wildcards: bool,
}

pub(super) fn filters(list: &Object, place: &str, names: &Names) -> Result<Filters> {
    let place = format!("{place}.filters");
    let Some(filters) = optional_object(list, "filters", &place)? else {
        return Ok(Filters::default());
    };
    let place = |key: &str| format!("{place}.{key}");
    let flag = |key: &str| optional_bool(filters, key, &place(key));
    let strings = |key: &str| optional_strings(filters, key, &place(key));
    Ok(Filters {
        is_dm: flag("is_dm")?,
        is_encrypted: flag("is_encrypted")?,
        is_invite: flag(names.is_invite)?,
        is_tombstoned: if names.tombstones { flag("is_tombstoned")? } else { None },
        room_types: room_types(filters, "room_types", &place("room_types"))?,
        not_room_types: room_types(filters, "not_room_types", &place("not_room_types"))?,
        room_name_like: optional_string(filters, "room_name_like", &place("room_name_like"))?,
        tags: strings("tags")?,
        not_tags: strings("not_tags")?,
        spaces: strings("spaces")?,
    })
}

fn room_types(of: &Object, key: &str, place: &str) -> Result<Option<Vec<Option<String>>>> {
    let Some(types) = optional_array(of, key, place)? else { return Ok(None) };
    let one = |value: &Value| match value {
        Value::Null => Ok(None),
        Value::String(kind) => Ok(Some(kind.clone())),
        _ => Err(RequestError::bad(place, "is not strings and nulls")),
    };
    types.iter().map(one).collect::<Result<_>>().map(Some)
}

pub(super) fn extensions(body: &Object, names: &Names) -> Result<Extensions> {
    let Some(all) = optional_object(body, "extensions", "extensions")? else {
        return Ok(Extensions::default());
    };
    Ok(Extensions {
        to_device: enabled(all, "to_device")?.map(to_device).transpose()?,
        e2ee: enabled(all, "e2ee")?.is_some(),
        account_data: scoped(all, "account_data", names)?,
        receipts: scoped(all, "receipts", names)?,
        typing: scoped(all, names.typing, names)?,
    })
}

fn enabled<'a>(all: &'a Object, name: &str) -> Result<Option<&'a Object>> {
    let place = format!("extensions.{name}");
    let Some(extension) = optional_object(all, name, &place)? else { return Ok(None) };
    let on = optional_bool(extension, "enabled", &format!("{place}.enabled"))?;
    Ok((on == Some(true)).then_some(extension))
}

/// Messages of one answer, also where the client asks for more.
const TO_DEVICE_LIMIT: u64 = 100;

fn to_device(extension: &Object) -> Result<ToDevice> {
    let limit = match extension.get("limit") {
        None | Some(Value::Null) => TO_DEVICE_LIMIT,
        Some(limit) => limit.as_u64().ok_or_else(|| {
            RequestError::bad("extensions.to_device.limit", "is not a whole number from 0 on")
        })?,
    };
    // Any form of token is let in: clients bring those of other servers.
    let since = match extension.get("since") {
        Some(Value::String(since)) => Some(since.clone()),
        Some(Value::Number(since)) => Some(since.to_string()),
        _ => None,
    };
    Ok(ToDevice { since, limit: limit.min(TO_DEVICE_LIMIT) })
}

fn scoped(all: &Object, name: &str, names: &Names) -> Result<Option<Scope>> {
    let Some(extension) = enabled(all, name)? else { return Ok(None) };
    let axis = |key: &str| {
        let place = format!("extensions.{name}.{key}");
        Ok(match extension.get(key) {
            None => None,
            Some(Value::Null) => Some(BTreeSet::new()),
            Some(_) => {
                let all = |it: &BTreeSet<String>| names.wildcards && it.contains("*");
                optional_strings(extension, key, &place)?.filter(|it| !all(it))
            }
        })
    };
    Ok(Some(Scope { lists: axis("lists")?, rooms: axis("rooms")? }))
}
