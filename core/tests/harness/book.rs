//! The ledger with its tables: published, committed, acknowledged in the order
//! in which the server does it, in as many steps as a test likes.

use std::sync::Arc;

use luge_core::{
    ledger::{Change, Command, Delta, Ledger, Reply},
    view::{Layered, MemoryTables, Pending, Write},
    world::World,
};

/// A ledger and what is durable.
#[derive(Debug)]
pub(crate) struct Book {
    pub(crate) ledger: Ledger,
    tables: MemoryTables,
    world: Arc<World>,
}

/// A group of commands that was applied, and is not yet durable.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) pending: Pending,
    pub(crate) writes: Vec<Write>,
    change: Change,
    late: bool,
    /// The answers, in order.
    pub(crate) replies: Vec<Reply>,
}

impl Book {
    /// What the tables hold.
    pub(crate) fn open(tables: MemoryTables) -> Self {
        let mut ledger = Ledger::open(&tables).expect("the tables fit together");
        let world = ledger.publish(Pending::default());
        Self { ledger, tables, world }
    }

    /// The newest published world.
    pub(crate) fn world(&self) -> &Arc<World> {
        &self.world
    }

    /// What is durable.
    pub(crate) fn tables(&self) -> &MemoryTables {
        &self.tables
    }

    /// Applies one more command of a group.
    pub(crate) fn apply(&mut self, group: &mut Group, now_ms: u64, command: Command) {
        let view = Layered { pending: &group.pending, below: &self.tables };
        let applied = self.ledger.apply(&view, now_ms, command);
        for write in &applied.writes {
            group.pending.insert((write.table, write.key.clone()), write.value.clone());
        }
        group.late |= !applied.early && !applied.change.is_empty();
        group.writes.extend(applied.writes);
        group.change.extend(applied.change);
        group.replies.push(applied.reply);
    }

    /// Publishes a group before it is durable, if that may be.
    pub(crate) fn publish_early(&mut self, group: &Group) -> Option<Arc<Delta>> {
        let early = !group.late && !group.change.is_empty();
        early.then(|| self.publish(group.pending.clone(), group.change.clone()))
    }

    /// Makes a group durable; publishes it where it was not.
    pub(crate) fn commit(&mut self, group: &Group) -> Option<Arc<Delta>> {
        self.tables.apply(&group.writes);
        if group.late {
            return Some(self.publish(Pending::default(), group.change.clone()));
        }
        self.world = self.ledger.publish(Pending::default());
        None
    }

    /// Takes in one command, from beginning to end.
    pub(crate) fn take_in(&mut self, command: Command, now_ms: u64) -> (Reply, Option<Arc<Delta>>) {
        let mut group = Group::default();
        self.apply(&mut group, now_ms, command);
        let early = self.publish_early(&group);
        let late = self.commit(&group);
        (group.replies[0], early.or(late))
    }

    fn publish(&mut self, pending: Pending, change: Change) -> Arc<Delta> {
        self.world = self.ledger.publish(pending);
        Arc::new(Delta { world: Arc::clone(&self.world), change })
    }
}
