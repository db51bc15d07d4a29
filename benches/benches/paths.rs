//! The hot paths under Criterion, for people: `cargo bench -p luge-benches`.

use std::{cell::RefCell, hint::black_box};

use criterion::{BatchSize, Criterion};
use luge_benches::paths::{Accounts, PATHS};

fn main() {
    let mut criterion = Criterion::default().sample_size(20).configure_from_args();
    let mut accounts = Accounts::default();
    for path in PATHS {
        let prepare = RefCell::new(None);
        criterion.bench_function(path.name, |bencher| {
            let mut prepare = prepare.borrow_mut();
            let prepare = prepare.get_or_insert_with(|| (path.build)(&mut accounts));
            bencher.iter_batched(&mut *prepare, |run| black_box(run()), BatchSize::PerIteration);
        });
    }
    criterion.final_summary();
}
