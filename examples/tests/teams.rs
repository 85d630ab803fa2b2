//! The example `teams`, run as a user runs it.

use limiter_test_servers::example;

#[test]
fn each_level_denies_a_call_and_what_is_beneath_a_group_adds_up_to_it() {
    let ran = example("teams").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    for denial in [
        "after 3 calls of acme/search/ci: 3 of 3 requests per minute are used for all calls",
        "after 2 calls of acme/search/web: 5 of 5 requests per minute are used for group acme/search",
        "after 4 calls of acme/support/bot: 2000 of 2000 output tokens per day are used for group acme/support",
        "after 3 calls of acme/support/bot: 9.50 of 10.00 credits per month are used for group acme,",
    ] {
        assert!(text.contains(denial), "{denial}: {text}");
    }
    let (_, tree) = text.split_once("-- used --\n").expect("the tree comes last");
    // The credits stand at the end of each line.
    let spent = |line: &str| line.rsplit(' ').nth(1).unwrap().parse::<limiter::Credits>().unwrap();
    let levels: Vec<_> =
        tree.lines().map(|line| (line.len() - line.trim_start().len(), spent(line))).collect();
    let sum = |indent| levels.iter().filter(|(of, _)| *of == indent).map(|(_, spent)| *spent).sum();
    let total: limiter::Credits = sum(0);
    assert_eq!((levels.len(), total.to_string()), (6, "9.50".to_owned()), "{tree}");
    assert_eq!([sum(2), sum(4)], [total, total], "{tree}");
}
