//! The names of rooms, as the specification computes them for clients that do
//! not.

use std::collections::BTreeMap;

use crate::{gate::Gate, world::Hero};

/// A room's name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RoomName {
    /// The name.
    pub text: String,
    /// Whether it is made of members, and not one that somebody gave.
    pub is_made_up: bool,
}

/// Members whom a name is made of.
const NAMED_MAX: usize = 5;

/// The room's name, as far as the user may see it.
pub fn of(gate: Gate<'_>) -> RoomName {
    let given = gate.name().or_else(|| gate.canonical_alias()).map(ToString::to_string);
    match given.or_else(|| gate.stripped_name()) {
        Some(text) => RoomName { text, is_made_up: false },
        None => made_up(&gate.named_by(), gate.counts()),
    }
}

fn made_up(heroes: &[Hero], counts: Option<(u64, u64)>) -> RoomName {
    let names = names(&heroes[..heroes.len().min(NAMED_MAX)]);
    // Without counts there are those whom one knows of.
    let others = match counts {
        Some((joined, invited)) => joined.saturating_add(invited).saturating_sub(1),
        None => names.len() as u64,
    };
    let alone = others == 0;
    let text = match (names.len() as u64, alone) {
        (0, true) => "Empty Room".to_owned(),
        (0, false) => format!("{others} others"),
        (_, true) => format!("Empty Room (was {})", listed(&names)),
        (named, false) if named >= others => listed(&names),
        (named, false) => format!("{} and {} others", names.join(", "), others - named),
    };
    RoomName { text, is_made_up: true }
}

/// `A`, `A and B`, `A, B and C`.
fn listed(names: &[String]) -> String {
    match names.split_last() {
        None => String::new(),
        Some((last, [])) => last.clone(),
        Some((last, others)) => format!("{} and {last}", others.join(", ")),
    }
}

/// Display names, with the id where there is none or two are the same.
fn names(heroes: &[Hero]) -> Vec<String> {
    let mut uses: BTreeMap<&str, u32> = BTreeMap::new();
    for hero in heroes {
        *uses.entry(hero.displayname.as_deref().unwrap_or(&hero.user_id)).or_default() += 1;
    }
    let name = |hero: &Hero| match hero.displayname.as_deref() {
        Some(name) if uses.get(name) == Some(&1) => name.to_owned(),
        Some(name) => format!("{name} ({})", hero.user_id),
        None => hero.user_id.to_string(),
    };
    heroes.iter().map(name).collect()
}

/// What a name is sorted by: letter case and the signs of ids and aliases
/// aside.
pub fn sorted_by(name: &str) -> String {
    name.trim_matches(['#', '!', '(', ')', ':', '_', '@']).to_lowercase()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hero(user_id: &str, name: &str) -> Hero {
        let displayname = (!name.is_empty()).then(|| name.into());
        Hero { user_id: user_id.into(), displayname, avatar_url: None }
    }

    #[test]
    fn a_name_is_made_of_members_as_the_specification_says() {
        let five = |count: usize| -> Vec<Hero> {
            let names = ["A", "B", "C", "D", "E", "F"];
            names[..count].iter().map(|name| hero(&format!("@{name}:x"), name)).collect()
        };
        for (heroes, counts, expected) in [
            (five(0), (1, 0), "Empty Room"),
            (five(0), (0, 0), "Empty Room"),
            (five(0), (3, 0), "2 others"),
            (five(1), (2, 0), "A"),
            (five(1), (1, 0), "Empty Room (was A)"),
            (five(2), (1, 1), "A, B and -1 others"),
            (five(2), (2, 1), "A and B"),
            (five(3), (4, 0), "A, B and C"),
            (five(3), (1, 0), "Empty Room (was A, B and C)"),
            (five(5), (10, 2), "A, B, C, D, E and 6 others"),
            (five(6), (7, 0), "A, B, C, D, E and 1 others"),
            (vec![hero("@a:x", "")], (2, 0), "@a:x"),
            (vec![hero("@a:x", "A"), hero("@b:x", "A")], (3, 0), "A (@a:x) and A (@b:x)"),
        ] {
            // More members named than there are: those named are all.
            let expected = expected.replace("A, B and -1 others", "A and B");
            assert_eq!(made_up(&heroes, Some(counts)).text, expected);
        }
    }

    #[test]
    fn names_sort_without_their_signs() {
        assert_eq!(sorted_by("#Matrix:x_"), "matrix:x");
        assert_eq!(sorted_by("!()"), "");
    }
}
