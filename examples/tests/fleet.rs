//! The example `fleet`, run as a user runs it.

use limiter_test_servers::example;

#[test]
fn a_fleet_admits_no_more_than_the_limit_and_asks_redis_seldom() {
    let ran = example("fleet").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let seconds: Vec<Vec<u64>> = text
        .lines()
        .map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect())
        .filter(|numbers: &Vec<u64>| numbers.len() == 7)
        .collect();
    assert_eq!(seconds.len(), 12, "{text}");
    let sum = |column: usize| seconds.iter().map(|second| second[column]).sum::<u64>();
    let (local, by_redis, asked, limit) = (sum(1), sum(2), sum(4), 300_000);
    assert!(local > 10 * by_redis && local > 20 * asked, "{text}");
    assert!(seconds.iter().all(|second| second[5] <= limit), "{text}");
    assert!(text.contains("kill -9") && text.contains("Redis has counted"), "{text}");
}
