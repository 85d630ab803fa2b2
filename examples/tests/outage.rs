//! The example `outage`, run as a user runs it.

use limiter_test_servers::example;

#[test]
fn each_policy_does_in_the_outage_what_it_promises_and_comes_back() {
    let ran = example("outage").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    // Counted, allowed by the store, allowed without it.
    let ended = |name: &str| {
        let row = text.lines().rfind(|line| line.starts_with(name)).expect("each has a row");
        let numbers = row.split_whitespace().filter_map(|word| word.parse().ok());
        let [counted, allowed, degraded] = *numbers.collect::<Vec<u64>>() else { panic!("{row}") };
        (counted, allowed, degraded)
    };

    let (counted, allowed, degraded) = ended("FailClosed");
    assert!(allowed > 0 && counted >= allowed && degraded == 0, "{text}");
    let (counted, allowed, degraded) = ended("FailOpen");
    assert!(counted >= allowed && degraded > 100, "more than a share allows: {text}");
    let (counted, allowed, degraded) = ended("LocalShare");
    assert_eq!(degraded, 100, "a quarter of 400: {text}");
    assert!(counted >= allowed + degraded, "it is paid: {text}");
    assert!(text.contains("degraded, denied"), "{text}");
    assert!(text.contains("errors"), "{text}");
}
