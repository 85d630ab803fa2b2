//! The example `open_tier`, run as a user runs it.

use limiter_test_servers::example;

#[test]
fn addresses_share_a_limit_and_the_paid_plan_is_raised_with_the_minute() {
    let ran = example("open_tier").output().unwrap();
    assert!(ran.status.success(), "{ran:?}");
    let text = String::from_utf8(ran.stdout).unwrap();
    let told: Vec<_> = text.lines().filter_map(|line| line.split_once(", this call")).collect();
    let told: Vec<_> = told.into_iter().map(|(told, _)| told).collect();
    let own = "requests per minute are used for all calls";
    assert_eq!(
        told,
        [
            format!("2 calls allowed, then ip/203.0.113.7: 2 of 2 {own}"),
            format!("2 calls allowed, then ip/2001:db8::1: 2 of 2 {own}"),
            "1 calls allowed, then ip/198.51.100.9: no more requests per minute are left for group ip"
                .to_owned(),
            format!("4 calls allowed, then customer: 4 of 4 {own}"),
            format!("0 calls allowed, then customer: 4 of 4 {own}"),
            format!("6 calls allowed, then customer: 6 of 6 {own}"),
            format!("2 calls allowed, then ip/203.0.113.7: 2 of 2 {own}"),
        ]
    );
}
