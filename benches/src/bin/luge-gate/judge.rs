//! The judgement: what was counted, beside what is allowed.

use luge_benches::paths::{ALLOCATIONS_MAX, GROWTHS, PATHS};

use crate::cost::{Baseline, Cost, Costs, Environment};

/// How much a figure may grow, in per cent of its baseline.
const PERCENT_MAX: u64 = 3;
/// The same for the C library's share, where the library or the processor is
/// another than the baseline's.
const ELSEWHERE_PERCENT_MAX: u64 = 30;
/// So few more instructions are no news, whatever the path.
const SLACK: u64 = 20;
/// The same for the C library's share: a copy takes one way or another by where
/// its bytes lie, and that depends on all that was asked of the allocator before.
const LIBRARY_SLACK: u64 = 200;
/// The same for the C library's share where it is another library.
const ELSEWHERE_SLACK: u64 = 500;

/// What there is to say, and whether all is well.
pub(crate) struct Verdict {
    pub(crate) text: String,
    pub(crate) passed: bool,
}

/// Compares what was counted with the baseline.
pub(crate) fn judge(known: &Baseline, environment: &Environment, costs: &Costs) -> Verdict {
    let comparable = known.measured_with.architecture() == environment.architecture();
    let mut lines = vec![heading()];
    let mut grown = Vec::new();
    let mut better = 0;
    let allowance = Allowance::of(known.measured_with == *environment);
    for path in PATHS {
        let Some(cost) = costs.get(path.name).copied() else { continue };
        let before = known.paths.get(path.name).copied();
        lines.push(row(path.name, cost, before));
        match before {
            None => grown.push(format!("{:?} is not in the baseline", path.name)),
            Some(before) if comparable => {
                grown.extend(allowance.exceeded(path.name, cost, before));
                better += u32::from(allowance.is_better(cost, before));
            }
            Some(_) => {}
        }
    }
    grown.extend(outgrown(costs));
    grown.extend(excess(costs));
    if known.measured_with != *environment {
        lines.push(elsewhere(&known.measured_with, environment, comparable));
    }
    let passed = grown.is_empty();
    if passed {
        lines.push(format!("gate: passed, nothing grew by more than {PERCENT_MAX} %"));
        if better > 0 {
            lines.push("gate: something became better; hold it with --bless".to_owned());
        }
    } else {
        lines.push("gate: FAILED".to_owned());
        lines.extend(grown.iter().map(|what| format!("  {what}")));
        lines.push("  if it has to be so: --bless, and a commit that says why".to_owned());
    }
    Verdict { text: lines.join("\n"), passed }
}

/// What is said where the baseline was made elsewhere.
fn elsewhere(then: &Environment, now: &Environment, comparable: bool) -> String {
    let held = if comparable {
        format!(
            "the program's own instructions and its allocations are held to {PERCENT_MAX} % as ever, the C library's share to {ELSEWHERE_PERCENT_MAX} %"
        )
    } else {
        "NOT COMPARED with the baseline, since the architecture is another; only growth with the account is looked at".to_owned()
    };
    format!("gate: the baseline is of {}; this is {}: {held}", then.line(), now.line())
}

/// What may be beyond the baseline.
struct Allowance {
    library_percent: u64,
    library_slack: u64,
}

impl Allowance {
    fn of(same_environment: bool) -> Self {
        if same_environment {
            Self { library_percent: PERCENT_MAX, library_slack: LIBRARY_SLACK }
        } else {
            Self { library_percent: ELSEWHERE_PERCENT_MAX, library_slack: ELSEWHERE_SLACK }
        }
    }

    /// The figures of a cost: name, now, before, how much more is allowed.
    fn figures(&self, now: Cost, before: Cost) -> [(&'static str, u64, u64, u64); 3] {
        let share = |of: u64, percent: u64| of * percent / 100;
        let own = share(before.instructions, PERCENT_MAX).max(SLACK);
        let library = share(before.library, self.library_percent).max(self.library_slack);
        let allocations = share(before.allocations, PERCENT_MAX);
        [
            ("instructions of its own", now.instructions, before.instructions, own),
            ("instructions of the C library", now.library, before.library, library),
            ("allocations", now.allocations, before.allocations, allocations),
        ]
    }

    fn exceeded(&self, path: &str, now: Cost, before: Cost) -> Vec<String> {
        let figures = self.figures(now, before).into_iter();
        figures
            .filter(|(_, now, before, more)| *now > before + more)
            .map(|(what, now, before, _)| {
                format!("{path:?} needs {} {what}: {now} after {before}", change(now, before))
            })
            .collect()
    }

    fn is_better(&self, now: Cost, before: Cost) -> bool {
        self.figures(now, before).into_iter().any(|(_, now, before, more)| now + more < before)
    }
}

/// What grows with the account and must not.
fn outgrown(costs: &Costs) -> Vec<String> {
    let mut grown = Vec::new();
    for growth in GROWTHS {
        let (Some(small), Some(large)) = (costs.get(growth.small), costs.get(growth.large)) else {
            continue;
        };
        let figures = [
            (
                "instructions",
                small.instructions + small.library,
                large.instructions + large.library,
            ),
            ("allocations", small.allocations, large.allocations),
        ];
        for (what, small, large) in figures {
            if large * 100 > small * growth.percent_max {
                grown.push(format!(
                    "{:?} needs {large} {what}, {:?} {small}: at most {} % are allowed",
                    growth.large, growth.small, growth.percent_max
                ));
            }
        }
    }
    grown
}

/// What asks for memory more often than it ever may.
fn excess(costs: &Costs) -> Vec<String> {
    let over = ALLOCATIONS_MAX.iter().filter_map(|(path, max)| {
        let allocations = costs.get(*path)?.allocations;
        (allocations > *max).then(|| {
            format!("{path:?} asks for memory {allocations} times, at most {max} are allowed")
        })
    });
    over.collect()
}

fn heading() -> String {
    format!(
        "{:<32}{:>13}{:>9}{:>12}{:>9}{:>9}{:>9}",
        "path", "instructions", "", "C library", "", "allocs", ""
    )
}

fn row(name: &str, now: Cost, before: Option<Cost>) -> String {
    let changed = |now: u64, before: Option<u64>| {
        before.map_or_else(|| "new".to_owned(), |before| change(now, before))
    };
    format!(
        "{name:<32}{:>13}{:>9}{:>12}{:>9}{:>9}{:>9}",
        now.instructions,
        changed(now.instructions, before.map(|it| it.instructions)),
        now.library,
        changed(now.library, before.map(|it| it.library)),
        now.allocations,
        changed(now.allocations, before.map(|it| it.allocations)),
    )
}

fn change(now: u64, then: u64) -> String {
    if now == then {
        return "=".to_owned();
    }
    format!("{:+.1} %", (now as f64 / then.max(1) as f64 - 1.0) * 100.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    const COST: Cost = Cost { instructions: 10_000, library: 10_000, allocations: 100 };

    fn here() -> Environment {
        Environment {
            valgrind: "valgrind-1".into(),
            c_library: "glibc 1".into(),
            processor: "x86_64 avx2".into(),
        }
    }

    fn other_library() -> Environment {
        Environment { c_library: "glibc 2".into(), ..here() }
    }

    /// The verdict where one path costs something else than before.
    fn verdict(environment: &Environment, cost: Cost) -> Verdict {
        let all = |cost: Cost| PATHS.iter().map(|path| (path.name.to_owned(), cost)).collect();
        let mut costs: Costs = all(Cost { allocations: 0, ..COST });
        let known = Baseline::new(here(), all(Cost { allocations: 0, ..COST }));
        let mut known = known;
        known.paths.insert(PATHS[0].name.to_owned(), COST);
        costs.insert(PATHS[0].name.to_owned(), cost);
        judge(&known, environment, &costs)
    }

    /// Goal: each figure is held to three per cent by itself.
    #[test]
    fn what_stays_within_three_per_cent_passes_and_what_does_not_is_named() {
        let cases = [
            (Cost { instructions: 10_300, ..COST }, Cost { instructions: 10_400, ..COST }),
            (Cost { library: 10_300, ..COST }, Cost { library: 10_400, ..COST }),
            (Cost { allocations: 103, ..COST }, Cost { allocations: 104, ..COST }),
        ];
        for (within, beyond) in cases {
            assert!(verdict(&here(), within).passed, "{within:?}");
            let failed = verdict(&here(), beyond);
            assert!(!failed.passed, "{beyond:?}");
            assert!(failed.text.contains(&format!("{:?} needs +4.0 %", PATHS[0].name)));
        }
    }

    /// Goal: another processor or library excuses the library's share alone, and
    /// not without end.
    #[test]
    fn another_c_library_excuses_its_own_share_and_nothing_else() {
        let elsewhere = other_library();
        assert!(verdict(&elsewhere, Cost { library: 12_900, ..COST }).passed);
        assert!(!verdict(&elsewhere, Cost { library: 13_100, ..COST }).passed);
        assert!(!verdict(&elsewhere, Cost { instructions: 10_400, ..COST }).passed);
        assert!(!verdict(&elsewhere, Cost { allocations: 104, ..COST }).passed);
        assert!(verdict(&elsewhere, COST).text.contains("the baseline is of valgrind-1"));
    }

    /// Goal: a short path does not fail by where its bytes happen to lie.
    #[test]
    fn a_few_instructions_of_the_c_library_are_no_news_and_more_are() {
        let short = |library| Cost { library, ..COST };
        let verdict = |library| {
            let known = Baseline::new(here(), [(PATHS[0].name.to_owned(), short(607))].into());
            judge(&known, &here(), &[(PATHS[0].name.to_owned(), short(library))].into())
        };
        assert!(verdict(631).passed);
        assert!(!verdict(808).passed);
    }

    #[test]
    fn on_another_architecture_it_says_that_nothing_was_compared() {
        let elsewhere = Environment { processor: "aarch64".into(), ..here() };
        let verdict = verdict(&elsewhere, Cost { instructions: 20_000, ..COST });
        assert!(verdict.passed && verdict.text.contains("NOT COMPARED"), "{}", verdict.text);
    }

    #[test]
    fn growth_with_the_account_fails_whatever_the_baseline_says() {
        for growth in GROWTHS {
            let large = Cost { instructions: 100_000 * growth.percent_max, ..COST };
            let costs = [(growth.small.to_owned(), COST), (growth.large.to_owned(), large)];
            let known = Baseline::new(here(), costs.clone().into());
            let verdict = judge(&known, &here(), &costs.into());
            assert!(!verdict.passed && verdict.text.contains("are allowed"), "{}", verdict.text);
        }
    }

    #[test]
    fn memory_beyond_a_paths_limit_fails_whatever_the_baseline_says() {
        for (path, max) in ALLOCATIONS_MAX {
            for (allocations, passes) in [(*max, true), (max + 1, false)] {
                let costs = [((*path).to_owned(), Cost { allocations, ..COST })];
                let known = Baseline::new(here(), costs.clone().into());
                let verdict = judge(&known, &here(), &costs.into());
                assert_eq!(verdict.passed, passes, "{}", verdict.text);
            }
        }
    }

    #[test]
    fn a_path_without_a_baseline_fails() {
        let costs: Costs = [(PATHS[0].name.to_owned(), COST)].into();
        assert!(!judge(&Baseline::new(here(), Costs::new()), &here(), &costs).passed);
    }
}
