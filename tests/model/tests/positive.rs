//! What must hold, in every state that can be reached.

use halberd_model::model::BOUNDS;
use halberd_model::variants::POSITIVE;
use halberd_model::{check, watchdog};

fn holds(index: usize) {
    let variant = &POSITIVE[index];
    let outcome = check::exhaust(variant);
    println!("{outcome}");
    assert!(!outcome.violated.contains_key(BOUNDS), "the model is too small for {}", variant.name);
    assert!(outcome.violated.is_empty(), "{outcome}");
    for sight in variant.must_see {
        let (_, words) = halberd_model::model::Sight::ALL[*sight as usize];
        assert!(outcome.saw(words) > 0, "{}: never seen: {words}", variant.name);
    }
    assert!(outcome.saw(halberd_model::model::ENDS_WELL) > 0, "{}: nothing ever ended well", variant.name);
}

macro_rules! hold {
    ($($test:ident = $index:literal),+ $(,)?) => {
        $(#[test] fn $test() { holds($index) })+
        #[test]
        fn every_variant_has_its_test() {
            assert_eq!([$($index),+].into_iter().max(), Some(POSITIVE.len() - 1));
        }
    };
}

hold! {
    one_host_with_sessions = 0,
    a_lying_controller_and_a_failing_rebuild = 1,
    one_host_with_ipmi = 2,
    two_guests = 3,
    three_engines = 4,
    cross_incident = 5,
    the_destination_dies_and_returns = 6,
    no_gate_and_no_autostart = 7,
    no_gate_in_the_window_of_the_last_reading = 8,
    it_dies_again_on_its_way_back = 9,
    a_rewound_database = 10,
}

#[test]
fn time_proves_a_host_dead() {
    let outcome = check::time("proof by time", watchdog::Guards::ALL);
    println!("{outcome}");
    assert!(outcome.violated.is_empty(), "{outcome}");
    assert!(outcome.saw(watchdog::PROVED) > 0);
}
