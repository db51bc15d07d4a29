//! Small word lists from which plausible people, rooms and chatter are put together.
//!
//! Only words and how they are combined: who says them, and when, is decided in `model::populate` and `conversation`.

use crate::random::Random;

const FIRST_NAMES: &[&str] = &[
    "Amelia", "Bela", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hugo", "Imani", "Jonas", "Keiko",
    "Lars", "Mirela", "Nadia", "Oskar", "Priya", "Quentin", "Rosa", "Stefan", "Tamar", "Ulrike",
    "Viktor", "Wanda", "Ximena", "Yusuf", "Zofia", "Aylin", "Bruno", "Clara", "Dmitri", "Esther",
    "Finn", "Gwen", "Henrik", "Ines", "Jamal",
];
const LAST_NAMES: &[&str] = &[
    "Hart",
    "Lindqvist",
    "Okafor",
    "Novak",
    "Yilmaz",
    "Haddad",
    "Bauer",
    "Moreau",
    "Wanjiru",
    "Keller",
    "Tanaka",
    "Berg",
    "Ionescu",
    "Petrov",
    "Silva",
    "Sharma",
    "Leroy",
    "Delgado",
    "Wolf",
    "Cohen",
    "Fischer",
    "Kowalski",
    "Santos",
    "Ngata",
    "Demir",
    "Rossi",
    "Castell",
    "Aalto",
    "O'Brien",
    "Vasquez",
];
const ADJECTIVES: &[&str] = &[
    "Quiet", "Weekly", "Open", "North", "Rainy", "Late", "Second", "Green", "Little", "Distant",
    "Public", "Modern", "Tuesday", "Harbour", "Upper", "Winter", "Paper", "Analogue",
];
const TOPICS: &[&str] = &[
    "Gardening",
    "Kernel",
    "Book Club",
    "Support",
    "Release",
    "Cycling",
    "Choir",
    "Budget",
    "Translation",
    "Kitchen",
    "Photography",
    "Infrastructure",
    "Board Games",
    "Hiring",
    "Maps",
    "Radio",
    "Bakery",
    "Astronomy",
    "Design",
    "Parents",
    "Chess",
    "Accessibility",
    "Incidents",
    "Field Trips",
];
const SUFFIXES: &[&str] = &[
    "Team",
    "Room",
    "Lounge",
    "Announcements",
    "Help",
    "Planning",
    "Berlin",
    "Lisbon",
    "2026",
    "& Friends",
];
const OPENINGS: &[&str] = &[
    "Has anyone seen",
    "I just finished",
    "Let us talk about",
    "Can you send me",
    "I am still waiting for",
    "Good news about",
    "Somebody broke",
    "I have a question on",
    "Tomorrow we discuss",
    "Thanks for",
    "Please review",
    "No progress with",
    "I wrote a note about",
];
const OBJECTS: &[&str] = &[
    "the new schedule",
    "last week's minutes",
    "the blue tent",
    "our second server",
    "the seating plan",
    "that bug from Friday",
    "the soup recipe",
    "the translation files",
    "the train tickets",
    "the microphone",
    "the upgrade",
    "the budget sheet",
    "the map of the harbour",
    "the choir's third song",
];
const ENDINGS: &[&str] = &[
    "?",
    ".",
    "!",
    ", and it looks fine.",
    ", sorry for the delay.",
    " 🙂",
    ", what do you think?",
    " …",
];
const SHORT_LINES: &[&str] = &[
    "ok",
    "yes",
    "no idea",
    "+1",
    "on my way",
    "done",
    "see you there",
    "haha",
    "good morning",
    "lunch?",
    "👍",
    "merci",
    "one moment",
    "back in five",
];

/// A person's name, such as "Greta Aalto".
pub(crate) fn person(random: &mut Random) -> String {
    format!("{} {}", random.pick(FIRST_NAMES), random.pick(LAST_NAMES))
}

/// A room's name, such as "Quiet Chess Lounge".
pub(crate) fn room_name(random: &mut Random) -> String {
    match random.below(3) {
        0 => format!("{} {}", random.pick(TOPICS), random.pick(SUFFIXES)),
        1 => format!("{} {}", random.pick(ADJECTIVES), random.pick(TOPICS)),
        _ => {
            format!("{} {} {}", random.pick(ADJECTIVES), random.pick(TOPICS), random.pick(SUFFIXES))
        }
    }
}

/// A room's topic, a sentence.
pub(crate) fn room_topic(random: &mut Random) -> String {
    format!("All about {}; ask for {}.", random.pick(TOPICS).to_lowercase(), random.pick(OBJECTS))
}

/// One line of conversation.
pub(crate) fn line(random: &mut Random) -> String {
    if random.chance(35) {
        return (*random.pick(SHORT_LINES)).to_owned();
    }
    let first =
        format!("{} {}{}", random.pick(OPENINGS), random.pick(OBJECTS), random.pick(ENDINGS));
    if random.chance(15) {
        format!("{first} {} {}.", random.pick(OPENINGS), random.pick(OBJECTS))
    } else {
        first
    }
}

/// The lower-case form of `text` with only the letters that a localpart or an alias may have.
pub(crate) fn localpart(text: &str) -> String {
    let mut part = String::with_capacity(text.len());
    for letter in text.chars() {
        if letter.is_ascii_alphanumeric() {
            part.push(letter.to_ascii_lowercase());
        } else if letter == ' ' && !part.ends_with('.') {
            part.push('.');
        }
    }
    part
}
