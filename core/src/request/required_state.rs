//! Which state events a client wants of a room.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

/// A set of (type, state key), described by patterns.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct RequiredState {
    /// All state; members are left out where `lazy_members` is set.
    pub all: bool,
    /// Members as they come up in the timeline.
    pub lazy_members: bool,
    /// These types, with all state keys (`None`) or some.
    pub types: BTreeMap<String, Option<BTreeSet<String>>>,
    /// These state keys, of any type.
    pub state_keys: BTreeSet<String>,
    /// Sets with exceptions.
    pub partial: BTreeSet<PartialState>,
}

/// A set with exceptions.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct PartialState {
    /// What is in it. Has no partial sets of its own.
    pub included: RequiredState,
    /// What is not in it all the same.
    pub excluded: BTreeSet<StatePattern>,
}

/// Entries of a type, a state key, both, or any.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct StatePattern {
    /// `type`; `None` for every one.
    pub kind: Option<String>,
    /// `state_key`; `None` for every one.
    pub state_key: Option<String>,
}

impl StatePattern {
    fn matches(&self, kind: &str, state_key: &str) -> bool {
        let is = |wanted: &Option<String>, is: &str| wanted.as_ref().is_none_or(|it| *it == *is);
        is(&self.kind, kind) && is(&self.state_key, state_key)
    }
}

impl PartialState {
    fn matches(&self, kind: &str, state_key: &str) -> bool {
        self.included.matches(kind, state_key)
            && !self.excluded.iter().any(|excluded| excluded.matches(kind, state_key))
    }

    fn wants_all_members(&self) -> bool {
        let excludes_all = |pattern: &StatePattern| {
            pattern.state_key.is_none() && pattern.kind.as_deref().is_none_or(|it| it == MEMBER)
        };
        self.included.wants_all_members() && !self.excluded.iter().any(excludes_all)
    }
}

/// The type of a member event.
pub const MEMBER: &str = "m.room.member";

impl RequiredState {
    /// The set that `[type, state_key]` pairs describe: `*` stands for all,
    /// `$ME` for `user_id`, and `$LAZY` beside `m.room.member` for lazy members
    /// (MSC3575; MSC4186's unstable form).
    pub fn from_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        user_id: &str,
    ) -> Self {
        let mut set = Self::default();
        for (kind, state_key) in pairs {
            set.add(kind, if state_key == "$ME" { user_id } else { state_key });
        }
        set
    }

    /// The set of what `included` matches and `excluded` does not, beside lazy
    /// members (MSC4186 as accepted).
    pub fn from_patterns(
        included: impl IntoIterator<Item = StatePattern>,
        excluded: BTreeSet<StatePattern>,
        lazy_members: bool,
    ) -> Self {
        let mut set = Self { lazy_members, ..Self::default() };
        for StatePattern { kind, state_key } in included {
            match (kind, state_key) {
                (None, None) => set.all = true,
                (None, Some(state_key)) => drop(set.state_keys.insert(state_key)),
                (Some(kind), None) => drop(set.types.insert(kind, None)),
                (Some(kind), Some(state_key)) => set.add_entry(kind, state_key),
            }
        }
        set.without(excluded)
    }

    /// The set that MSC3575's pairs describe: as [`Self::from_pairs`], but beside
    /// `["*", "*"]` the others do not add: of each type that they name nothing is
    /// wanted but what they say.
    pub fn from_filtering_pairs<'a>(
        pairs: impl IntoIterator<Item = (&'a str, &'a str)>,
        user_id: &str,
    ) -> Self {
        let (all, others): (Vec<_>, Vec<_>) =
            pairs.into_iter().partition(|pair| *pair == ("*", "*"));
        let set = Self::from_pairs(others.iter().copied(), user_id);
        if all.is_empty() {
            return set;
        }
        let restricted = others.iter().filter(|(kind, key)| *kind != "*" && *key != "*");
        let pattern = |(kind, _): &(&str, &str)| StatePattern {
            kind: Some((*kind).to_owned()),
            state_key: None,
        };
        let all = Self { all: true, lazy_members: set.lazy_members, ..Self::default() };
        all.without(restricted.map(pattern).collect()).union(&set)
    }

    /// The set less `excluded`.
    fn without(self, excluded: BTreeSet<StatePattern>) -> Self {
        if excluded.is_empty() {
            return self;
        }
        let lazy_members = self.lazy_members;
        let partial = BTreeSet::from([PartialState { included: self, excluded }]);
        Self { lazy_members, partial, ..Self::default() }
    }

    fn add_entry(&mut self, kind: String, state_key: String) {
        if let Some(keys) = self.types.entry(kind).or_insert_with(|| Some(BTreeSet::new())) {
            keys.insert(state_key);
        }
    }

    fn add(&mut self, kind: &str, state_key: &str) {
        match (kind, state_key) {
            (MEMBER, "$LAZY") => self.lazy_members = true,
            (_, "$LAZY") => {}
            ("*", "*") => self.all = true,
            ("*", _) => drop(self.state_keys.insert(state_key.to_owned())),
            (_, "*") => drop(self.types.insert(kind.to_owned(), None)),
            _ => self.add_entry(kind.to_owned(), state_key.to_owned()),
        }
    }

    /// Whether an entry of the state is wanted for itself (lazy members are
    /// decided by the timeline).
    pub fn matches(&self, kind: &str, state_key: &str) -> bool {
        let all = self.all && !(self.lazy_members && kind == MEMBER);
        all || self.state_keys.contains(state_key)
            || self
                .types
                .get(kind)
                .is_some_and(|keys| keys.as_ref().is_none_or(|keys| keys.contains(state_key)))
            || self.partial.iter().any(|partial| partial.matches(kind, state_key))
    }

    /// Whether every member is wanted at once.
    pub fn wants_all_members(&self) -> bool {
        self.types.get(MEMBER).is_some_and(Option::is_none)
            || (self.all && !self.lazy_members)
            || self.partial.iter().any(PartialState::wants_all_members)
    }

    /// Whether nothing is wanted.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether everything that `other` wants is wanted here too. May say no
    /// where patterns overlap in ways that no client sends; never a wrong yes.
    pub fn covers(&self, other: &Self) -> bool {
        if self == other {
            return true;
        }
        let lazy = !other.lazy_members || self.lazy_members || self.wants_all_members();
        let all = !other.all
            || (self.all && (!self.lazy_members || other.lazy_members || self.wants_all_members()));
        let keys = other.state_keys.iter().all(|key| self.matches_any_type(key));
        let types = other.types.iter().all(|(kind, keys)| match keys {
            None => {
                self.types.get(kind).is_some_and(Option::is_none)
                    || (self.all && (kind != MEMBER || !self.lazy_members))
            }
            Some(keys) => keys.iter().all(|key| self.matches(kind, key)),
        });
        let partial = other
            .partial
            .iter()
            .all(|partial| self.partial.contains(partial) || self.covers(&partial.included));
        lazy && all && keys && types && partial
    }

    fn matches_any_type(&self, state_key: &str) -> bool {
        self.state_keys.contains(state_key) || (self.all && !self.lazy_members)
    }

    /// What satisfies both: lazy members only where neither wants all.
    #[must_use]
    pub fn union(&self, other: &Self) -> Self {
        let mut union = self.clone();
        union.all |= other.all;
        union.lazy_members |= other.lazy_members;
        union.state_keys.extend(other.state_keys.iter().cloned());
        for (kind, keys) in &other.types {
            match (union.types.get_mut(kind), keys) {
                (Some(Some(mine)), Some(theirs)) => mine.extend(theirs.iter().cloned()),
                (Some(None), _) => {}
                (_, keys) => drop(union.types.insert(kind.clone(), keys.clone())),
            }
        }
        union.partial.extend(other.partial.iter().cloned());
        if self.wants_all_members() || other.wants_all_members() {
            union.types.insert(MEMBER.to_owned(), None);
        }
        union
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ME: &str = "@me:x";

    fn set(pairs: &[(&str, &str)]) -> RequiredState {
        RequiredState::from_pairs(pairs.iter().copied(), ME)
    }

    #[test]
    fn patterns_match_what_they_say() {
        let wanted = set(&[
            ("m.room.name", ""),
            (MEMBER, "$ME"),
            (MEMBER, "$LAZY"),
            ("m.space.child", "*"),
            ("*", "k"),
        ]);
        assert!(wanted.lazy_members && !wanted.wants_all_members());
        for (kind, key, expected) in [
            ("m.room.name", "", true),
            ("m.room.name", "x", false),
            (MEMBER, ME, true),
            (MEMBER, "@you:x", false),
            ("m.space.child", "!a", true),
            ("anything", "k", true),
            ("anything", "", false),
        ] {
            assert_eq!(wanted.matches(kind, key), expected, "{kind} {key}");
        }
    }

    #[test]
    fn all_state_beside_lazy_members_leaves_members_to_the_timeline() {
        let wanted = set(&[("*", "*"), (MEMBER, "$LAZY")]);
        assert!(wanted.matches("m.room.topic", "") && !wanted.matches(MEMBER, ME));
        assert!(set(&[("*", "*")]).matches(MEMBER, ME));
    }

    #[test]
    fn what_is_excluded_is_left_out_of_what_is_included() {
        let pattern = |kind: &str, key: &str| StatePattern {
            kind: (kind != "*").then(|| kind.to_owned()),
            state_key: (key != "*").then(|| key.to_owned()),
        };
        let of = |included: &[(&str, &str)], excluded: &[(&str, &str)], lazy| {
            let patterns =
                |of: &[(&str, &str)]| of.iter().map(|(kind, key)| pattern(kind, key)).collect();
            let included: Vec<_> = patterns(included);
            RequiredState::from_patterns(included, patterns(excluded).into_iter().collect(), lazy)
        };
        let all_but_create = of(&[("*", "*")], &[("m.room.create", "")], false);
        assert!(all_but_create.matches("m.room.name", "") && all_but_create.wants_all_members());
        assert!(!all_but_create.matches("m.room.create", ""));
        let no_members = of(&[("*", "*")], &[(MEMBER, "*")], true);
        assert!(no_members.lazy_members && !no_members.wants_all_members());
        assert!(!no_members.matches(MEMBER, ME) && no_members.matches("a", ME));
        // What one leaves out the other may want.
        let union = all_but_create.union(&of(&[("m.room.create", "*")], &[], false));
        assert!(union.matches("m.room.create", "") && union.covers(&all_but_create));
        assert!(!all_but_create.covers(&union) && union.wants_all_members());
        assert!(of(&[("*", "*")], &[], false).covers(&all_but_create));
    }

    #[test]
    fn beside_all_state_pairs_filter() {
        let of =
            |pairs: &[(&str, &str)]| RequiredState::from_filtering_pairs(pairs.iter().copied(), ME);
        let wanted = of(&[("*", "*"), (MEMBER, "@you:x"), (MEMBER, "$ME")]);
        assert!(wanted.matches("a", "") && wanted.matches(MEMBER, ME));
        assert!(wanted.matches(MEMBER, "@you:x") && !wanted.matches(MEMBER, "@other:x"));
        assert!(!wanted.wants_all_members());
        let lazy = of(&[("*", "*"), (MEMBER, "$LAZY")]);
        assert!(lazy.lazy_members && !lazy.matches(MEMBER, ME) && !lazy.wants_all_members());
        assert!(of(&[("*", "*"), ("a", "*")]).matches("a", "k"));
        assert!(of(&[("*", "*")]).wants_all_members());
        assert_eq!(of(&[("a", ""), ("b", "*")]), set(&[("a", ""), ("b", "*")]));
    }

    fn pairs() -> impl Strategy<Value = Vec<(&'static str, &'static str)>> {
        let kind = prop::sample::select(vec!["*", MEMBER, "a", "b"]);
        let key = prop::sample::select(vec!["*", "$ME", "$LAZY", "", "k"]);
        prop::collection::vec((kind, key), 0..5)
    }

    proptest! {
        #[test]
        fn a_union_wants_what_either_wants(a in pairs(), b in pairs()) {
            let (a, b) = (set(&a), set(&b));
            let union = a.union(&b);
            for kind in [MEMBER, "a", "b", "c"] {
                for key in ["", "k", ME, "z"] {
                    prop_assert!(!(a.matches(kind, key) || b.matches(kind, key)) || union.matches(kind, key));
                }
            }
            prop_assert_eq!(&union, &b.union(&a));
            prop_assert!(union.covers(&a) && union.covers(&b));
        }

        #[test]
        fn what_covers_another_matches_all_that_it_matches(a in pairs(), b in pairs()) {
            let (a, b) = (set(&a), set(&b));
            if a.covers(&b) {
                for kind in [MEMBER, "a", "b", "c"] {
                    for key in ["", "k", ME, "z"] {
                        prop_assert!(!b.matches(kind, key) || a.matches(kind, key));
                    }
                }
            }
        }
    }
}
