//! Every path, as everybody who may not see where it leads.

use std::collections::{BTreeMap, BTreeSet};

use luge_core::request::Dialect;
use serde_json::Value;

use crate::{
    fields,
    paths::{Of, PATHS, Path, batches},
    relations::Relation,
    town::{Look, Observer, ROOM, SECRET, Seen, Town, text_of},
};

/// When something happens.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Moment {
    /// Before Bob has anything to do with the room.
    First,
    /// After all that makes the relation.
    Last,
}

/// What is seen in towns where nothing happens.
#[derive(Default)]
struct Quiet(BTreeMap<(Relation, Observer, Requests, Prepared), Vec<Seen>>);

/// The names of the paths that something has to come before, and when it does.
type Prepared = Vec<(&'static str, Moment)>;

/// The names of the requests that are made.
type Requests = BTreeSet<&'static str>;

impl Quiet {
    /// Where none of `paths` happens, and what has to come before them does.
    fn seen(
        &mut self,
        dialect: Dialect,
        bystander: Bystander,
        requests: &Requests,
        paths: &[&Path],
    ) -> &[Seen] {
        let Bystander { relation, observer, moment } = bystander;
        let prepared = paths.iter().filter(|path| path.prepare.is_some());
        let prepared = prepared.map(|path| (path.name, moment)).collect();
        let key = (relation, observer, requests.clone(), prepared);
        self.0.entry(key).or_insert_with(|| live(dialect, bystander, requests, paths, false))
    }
}

/// Who looks, how Bob stands to the room, and when something happens.
#[derive(Clone, Copy, Debug)]
struct Bystander {
    observer: Observer,
    relation: Relation,
    moment: Moment,
}

impl Bystander {
    fn bob(relation: Relation) -> Self {
        Self { observer: Observer::Bob, relation, moment: Moment::Last }
    }
}

/// The requests whose answers show what happens.
fn requests(paths: &[&Path]) -> Requests {
    paths.iter().flat_map(|path| path.shown.iter().map(|(_, _, request, _)| *request)).collect()
}

/// What a bystander sees of everything, whether or not `paths` happen.
fn live(
    dialect: Dialect,
    bystander: Bystander,
    requests: &Requests,
    paths: &[&Path],
    they_happen: bool,
) -> Vec<Seen> {
    let Bystander { observer, relation, moment } = bystander;
    let mut town = Town::new(dialect);
    let prepare_at = |at: Moment, town: &mut Town| {
        let prepare = paths.iter().filter_map(|path| path.prepare);
        prepare.filter(|_| at == moment).for_each(|prepare| prepare(town));
    };
    let happens_at = |at: Moment, town: &mut Town| {
        let happening = paths.iter().filter(|_| they_happen && at == moment);
        happening.for_each(|path| (path.happens)(town));
    };
    prepare_at(Moment::First, &mut town);
    happens_at(Moment::First, &mut town);
    relation.begin(&mut town);
    town.life_goes_on();
    let mut look = Look::begin(&mut town, observer, requests);
    relation.go_on(&mut town);
    prepare_at(Moment::Last, &mut town);
    look.go_on(&mut town);
    look.end(&mut town, |town| {
        happens_at(Moment::Last, town);
        relation.end(town);
    })
}

/// All who may not learn what happens on a path of a batch, with the paths of
/// which they may not.
fn bystanders<'a>(batch: &[&'a Path]) -> Vec<(Bystander, Vec<&'a Path>)> {
    let path = batch[0];
    let of_all = |it| (it, batch.to_vec());
    if path.of != Of::Room {
        let relations = [Relation::Member, Relation::Stranger, Relation::Invited, Relation::Left];
        let mut all: Vec<_> = relations.map(Bystander::bob).into();
        if path.of == Of::Device {
            let observer = Observer::SecondDevice;
            all.push(Bystander { observer, ..Bystander::bob(Relation::Member) });
        }
        if path.is_history {
            all.extend(Relation::LATER.map(Bystander::bob));
        }
        return all.into_iter().map(of_all).collect();
    }
    let mut all = Vec::new();
    if !path.is_old {
        all.extend(Relation::OUTSIDE.map(Bystander::bob).map(of_all));
    }
    let never_there = Relation::OUTSIDE.into_iter().filter(|it| it.is_never_there());
    let moment = Moment::First;
    all.extend(never_there.map(|it| of_all(Bystander { moment, ..Bystander::bob(it) })));
    let history: Vec<_> = batch.iter().filter(|path| path.is_history).copied().collect();
    if !history.is_empty() {
        all.extend(Relation::LATER.map(|it| (Bystander::bob(it), history.clone())));
    }
    all
}

/// What differs between what is seen where something happens and where nothing
/// does.
pub(crate) fn differences(quiet: &[Seen], seen: &[Seen]) -> Vec<String> {
    assert_eq!(quiet.len(), seen.len(), "as much is seen whatever happens");
    let differs = |(quiet, seen): (&Seen, &Seen)| {
        let (at, without, with) = difference("", &quiet.answer, &seen.answer)?;
        Some(format!("{} ({}) at {at}: {with} and not {without}", seen.request, seen.how))
    };
    quiet.iter().zip(seen).filter_map(differs).collect()
}

/// The first place where two values differ, and what is there.
fn difference<'a>(
    at: &str,
    one: &'a Value,
    other: &'a Value,
) -> Option<(String, &'a Value, &'a Value)> {
    let of = |key: &str, index: Option<usize>| {
        let get = |value: &'a Value| match index {
            Some(index) => value.get(index),
            None => value.get(key),
        };
        let (one, other) = (get(one).unwrap_or(&Value::Null), get(other).unwrap_or(&Value::Null));
        difference(&format!("{at}/{key}"), one, other)
    };
    match (one, other) {
        _ if one == other => None,
        (Value::Object(a), Value::Object(b)) => {
            a.keys().chain(b.keys()).find_map(|it| of(it, None))
        }
        (Value::Array(a), Value::Array(b)) => {
            (0..a.len().max(b.len())).find_map(|it| of(&it.to_string(), Some(it)))
        }
        _ => Some((at.to_owned(), one, other)),
    }
}

/// Fails with everything that leaks in `dialect`.
fn nothing_leaks(dialect: Dialect) {
    let mut quiet = Quiet::default();
    let mut leaks = Vec::new();
    for batch in batches() {
        for (bystander, paths) in bystanders(&batch) {
            let requests = requests(&paths);
            let seen = live(dialect, bystander, &requests, &paths, true);
            let is_later = Relation::LATER.contains(&bystander.relation);
            let mut found = Vec::new();
            if !paths[0].shows_otherwise && !is_later {
                found = differences(quiet.seen(dialect, bystander, &requests, &paths), &seen);
            }
            let tells = seen.iter().filter(|it| it.answer.to_string().contains(SECRET));
            found.extend(tells.map(|it| format!("{} ({}): {}", it.request, it.how, it.answer)));
            if let Some(first) = found.first() {
                let names: Vec<_> = paths.iter().map(|path| path.name).collect();
                leaks.push(format!(
                    "one of {names:?} leaks to {bystander:?}, {} times: {first:.500}",
                    found.len(),
                ));
            }
        }
    }
    assert!(leaks.is_empty(), "{} leaks:\n{}", leaks.len(), leaks.join("\n"));
}

/// Fails with every path that does not lead where it is said to in `dialect`.
fn every_path_leads_somewhere(dialect: Dialect) {
    let mut quiet = Quiet::default();
    let mut wrong = Vec::new();
    for path in PATHS {
        let moment = if path.is_old { Moment::First } else { Moment::Last };
        let insider = Bystander { observer: path.insider(), relation: Relation::Member, moment };
        let requests = requests(&[path]);
        let seen = live(dialect, insider, &requests, &[path], true);
        let quiet = quiet.seen(dialect, insider, &requests, &[path]);
        let mut tells = path.shown.iter().all(|(_, dialects, ..)| !dialects.contains(&dialect));
        for (field, dialects, request, at) in path.shown {
            if !dialects.contains(&dialect) {
                continue;
            }
            let of = |it: &Seen| it.answer.pointer(at).cloned();
            let differs = |(quiet, seen): (&Seen, &Seen)| {
                seen.request == *request
                    && of(quiet) != of(seen)
                    && *of(seen).get_or_insert(Value::Null) != Value::Null
            };
            if !quiet.iter().zip(&seen).any(differs) {
                wrong.push(format!("{}: {field} at {at} of {request}", path.name));
            }
        }
        tells |= text_of(&seen).contains(SECRET);
        let is_number = path.shown.iter().all(|(_, _, request, at)| {
            *request == "orders" || at.ends_with("count") || at.ends_with("ops")
        });
        if !tells && !is_number {
            wrong.push(format!("{}: the secret is told to nobody", path.name));
        }
    }
    assert!(wrong.is_empty(), "paths that lead nowhere:\n{}", wrong.join("\n"));
}

/// Goal: in the simplified dialect, nothing that happens changes or shows in any
/// answer to who may not learn of it.
#[test]
fn nothing_leaks_in_the_simplified_dialect() {
    nothing_leaks(Dialect::Simplified);
}

/// Goal: the same in MSC4186 as accepted.
#[test]
fn nothing_leaks_in_msc4186() {
    nothing_leaks(Dialect::V4);
}

/// Goal: the same in MSC3575.
#[test]
fn nothing_leaks_in_msc3575() {
    nothing_leaks(Dialect::Msc3575);
}

/// Goal: what happens shows to who may learn of it, where it is said to, so that
/// its absence elsewhere proves something.
#[test]
fn every_path_leads_to_who_may_see_it() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        every_path_leads_somewhere(dialect);
    }
}

/// Goal: nobody outside makes Luge fetch anything.
#[test]
fn outsiders_fetch_nothing() {
    for dialect in [Dialect::Simplified, Dialect::V4, Dialect::Msc3575] {
        let fetched = |relation| {
            let requests = ["lazy", "types", "keys"].into();
            let seen = live(dialect, Bystander::bob(relation), &requests, &[], false);
            let fetches = seen.into_iter().filter(|it| it.request == "fetches");
            fetches.map(|it| it.answer.to_string()).collect::<String>()
        };
        assert!(fetched(Relation::Member).contains(ROOM), "members fetch");
        // Who was there may have, while they were.
        for relation in Relation::OUTSIDE.into_iter().filter(|it| it.is_never_there()) {
            assert!(!fetched(relation).contains(ROOM), "{dialect:?} {relation:?}");
        }
    }
}

/// Goal: every field of a response, and every part of a request that could show
/// something, has a path or a reason not to.
#[test]
fn every_field_has_a_path() {
    let shown: BTreeSet<&str> =
        PATHS.iter().flat_map(|path| path.shown.iter().map(|(field, ..)| *field)).collect();
    let exempt: BTreeSet<&str> = fields::EXEMPT.iter().map(|(field, _)| *field).collect();
    let all: BTreeSet<&str> = fields::all().into_iter().collect();
    let bare: Vec<_> =
        all.iter().filter(|it| !shown.contains(*it) && !exempt.contains(*it)).collect();
    assert!(bare.is_empty(), "no path leads to {bare:?}");
    let unknown: Vec<_> = shown.union(&exempt).filter(|it| !all.contains(*it)).collect();
    assert!(unknown.is_empty(), "there is no {unknown:?}");
}
