//! `e2ee` (MSC3884): device lists that changed, and what keys are left.

use crate::{
    connection::{Asked, State},
    id::Sequence,
    record::{DeviceListRecord, key},
    response::E2ee,
    view::{Direction, Table},
};

/// Changes of device lists since the connection was last told, and the counts
/// as the homeserver last gave them. Without a position there is nothing that
/// lists could have changed since.
pub(super) fn answer(asked: Asked<'_>, next: &mut State) -> E2ee {
    let device_lists = asked.base.map(|base| changed_since(asked, told(base)));
    next.device_lists = Some(asked.source.world.sequence);
    E2ee {
        device_lists,
        one_time_keys_count: asked.of_device.one_time_keys_count.clone(),
        fallback_key_types: asked.of_device.fallback_key_types.clone(),
    }
}

/// How far device lists were told.
fn told(base: &State) -> Sequence {
    base.device_lists.unwrap_or(base.cursor)
}

/// Whether device lists may have changed since `base` told of them.
pub(super) fn has_any(asked: Asked<'_>, base: &State) -> bool {
    asked.device_lists_changed > told(base)
}

fn changed_since(asked: Asked<'_>, since: Sequence) -> (Vec<String>, Vec<String>) {
    if asked.device_lists_changed <= since {
        return (Vec::new(), Vec::new());
    }
    let from = key::of_device(asked.device);
    let to = key::after_prefix(&from);
    let (mut changed, mut left) = (Vec::new(), Vec::new());
    asked.source.view.scan(
        Table::DeviceLists,
        &from,
        &to,
        Direction::Forward,
        &mut |key, archive| {
            let user_id = key.get(from.len()..).and_then(|bytes| std::str::from_utf8(bytes).ok());
            if let (Some(user_id), Some(record)) = (user_id, DeviceListRecord::access(archive))
                && record.changed.to_native() > since.0
            {
                let users = if record.left { &mut left } else { &mut changed };
                users.push(user_id.to_owned());
            }
            true
        },
    );
    (changed, left)
}
