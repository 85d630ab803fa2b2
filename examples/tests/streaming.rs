//! The example `streaming`, run as a user runs it.

use limiter_test_servers::example;

#[test]
fn the_books_of_each_caller_add_up_to_the_token() {
    let output = example("streaming").output().unwrap();
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8(output.stdout).unwrap();
    let row = |name: &str| {
        let row = text.lines().find(|line| line.starts_with(name)).expect("each caller has a row");
        let numbers = row.split_whitespace().skip(1).take(3);
        let [limit, received, used] =
            *numbers.map(|number| number.parse().unwrap()).collect::<Vec<u64>>()
        else {
            panic!("{row}")
        };
        (limit, received, used, row.to_owned())
    };
    let (_, received, used, ending) = row("patient");
    assert_eq!((received, used), (300, 309), "the upstream counts nine tokens in the prompt");
    assert!(ending.ends_with("it was complete"), "{text}");

    let (_, received, used, ending) = row("hasty");
    assert_eq!((received, used), (40, 51), "eleven are estimated for the prompt");
    assert!(ending.ends_with("left after 40 tokens"), "{text}");

    let (limit, received, used, ending) = row("small");
    assert_eq!(used, received + 11);
    assert!(used <= limit && received > 100, "{text}");
    assert!(ending.contains(" tokens per minute are used for "), "{text}");
}
