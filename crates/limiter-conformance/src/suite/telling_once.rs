//! Each threshold is told once in a window, whatever is given back, repeated, raced for, or done to the clock.

use std::collections::BTreeMap;
use std::sync::Arc;

use limiter_core::{Charge, Crossing, Decision, Limits, Store, Timestamp};
use tokio::sync::Barrier;

use super::StoreUnderTest;
use super::reserved_calls::{Calls, at_noon_and, generous, millionths, output};
use super::told::{NOTHING, in_words, told};
use super::world::{DAY, MIDNIGHT, MINUTE, asset, limits, named, requests_per_day, tokens};

/// Settled down or cancelled, and used up again: it is the same window, and was told.
pub async fn what_is_given_back_and_used_again_is_not_told_again(store: impl StoreUnderTest) {
    let config = named("ci").with_global(generous()).with_budget(millionths(100));
    let calls = Calls::of(&store, config).await;
    let charge = tokens(0, 80).with_credits(millionths(80));
    let nothing = output(0).with_credits(millionths(0));
    let reserved = calls.try_reserve("r1", None, charge, DAY).await.expect("it is new");
    assert_eq!(told(&reserved), ["80 % of global/minute/tokens", "80 % of the budget"]);
    assert_eq!(calls.settling_tells("r1", nothing).await, NOTHING);
    for id in ["r2", "r3"] {
        let reserved = calls.try_reserve(id, None, charge, DAY).await.expect("it is new");
        assert_eq!(told(&reserved), NOTHING);
        calls.cancel(id).await.expect("the reservation is known");
    }
    assert_eq!((calls.used().await, calls.spent().await), ([1, 0, 1, 0], 0));
    assert_eq!(calls.tells(None, charge).await, NOTHING);
    let rest = tokens(0, 20).with_credits(millionths(20));
    assert_eq!(
        calls.tells(None, rest).await,
        ["100 % of global/minute/tokens", "100 % of the budget"]
    );
}

/// The last unit is taken and given back again and again.
pub async fn a_count_that_swings_about_its_limit_tells_once(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_day(1))).await;
    let mut said = Vec::new();
    for call in 0..5 {
        let id = format!("r{call}");
        let reserved = calls.try_reserve(&id, None, Charge::request(), DAY).await;
        said.extend(told(&reserved.expect("it is new")));
        calls.cancel(&id).await.expect("the reservation is known");
    }
    assert_eq!(said, ["80 % of global/day/requests", "100 % of global/day/requests"]);
}

/// A call under an id that is known, in whatever way it is made.
pub async fn a_repetition_tells_nothing(store: impl StoreUnderTest) {
    let calls = Calls::of(&store, named("ci").with_global(requests_per_day(10))).await;
    let eight = Charge::request().with_requests(8).expect("within bounds");
    let checked = calls.check_once("q1", None, eight).await.expect("it is new");
    assert_eq!(told(&checked), ["80 % of global/day/requests"]);
    let reserved = calls.try_reserve("r1", None, Charge::request(), DAY).await.expect("it is new");
    assert_eq!(told(&reserved), NOTHING);
    let recorded = calls.recording_tells("q2", Charge::request()).await;
    assert_eq!(recorded, ["100 % of global/day/requests"]);
    for _ in 0..2 {
        let checked = calls.check_once("q1", None, eight).await.expect("the id is known");
        assert_eq!(told(&checked), NOTHING);
        let reserved = calls.try_reserve("r1", None, Charge::request(), DAY).await;
        assert_eq!(told(&reserved.expect("the id is known")), NOTHING);
        assert_eq!(calls.recording_tells("q2", Charge::request()).await, NOTHING);
    }
}

/// An extension, and a settlement, whose answers were lost.
pub async fn a_repeated_correction_tells_nothing(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.reserve("r1", tokens(0, 10)).await;
    for expected in [&["80 % of global/minute/tokens"][..], &NOTHING] {
        let extended = calls.extend("r1", output(90)).await.expect("the reservation is known");
        assert_eq!(told(&extended), expected);
    }
    for expected in [&["100 % of global/minute/tokens"][..], &NOTHING] {
        assert_eq!(calls.settling_tells("r1", output(120)).await, expected);
    }
}

/// Each minute tells again; the day, which goes on, does not, until it is another one.
pub async fn a_new_window_tells_again(store: impl StoreUnderTest) {
    let both = limits(|l| l.tokens_per_minute(100).tokens_per_day(100));
    let calls = Calls::of(&store, named("ci").with_global(both)).await;
    let reached = ["80 % of global/minute/tokens", "80 % of global/day/tokens"];
    let reserved = calls.try_reserve("r1", None, tokens(0, 80), DAY).await.expect("it is new");
    assert_eq!(told(&reserved), reached);
    calls.world.advance(MINUTE);
    assert_eq!(calls.settling_tells("r1", output(10)).await, NOTHING);
    assert_eq!(calls.tells(None, tokens(0, 80)).await, [reached[0]]);
    calls.world.clock.set(MIDNIGHT);
    assert_eq!(calls.tells(None, tokens(0, 80)).await, reached);
}

/// The counts are carried over, and so is what was told of them.
pub async fn a_mended_clock_tells_nothing_again(store: impl StoreUnderTest) {
    let both = limits(|l| l.tokens_per_minute(100).tokens_per_day(100));
    let calls = Calls::of(&store, named("ci").with_global(both)).await;
    calls.world.advance(10 * DAY);
    let reached = ["80 % of global/minute/tokens", "80 % of global/day/tokens"];
    assert_eq!(calls.tells(None, tokens(0, 80)).await, reached);
    calls.world.clock.set(at_noon_and(0));
    assert_eq!(calls.tells(None, tokens(0, 19)).await, NOTHING);
    assert!(!calls.world.check(&calls.key, None, tokens(0, 2)).await.is_allowed());
    let last = calls.tells(None, tokens(0, 1)).await;
    assert_eq!(last, ["100 % of global/minute/tokens", "100 % of global/day/tokens"]);
}

/// A denial stores the mending, and what was told with it.
pub async fn a_clock_mended_by_a_denial_tells_nothing_again(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    calls.world.advance(10 * DAY);
    assert_eq!(calls.tells(None, tokens(0, 80)).await, ["80 % of global/minute/tokens"]);
    calls.world.clock.set(at_noon_and(0));
    assert!(!calls.world.check(&calls.key, None, tokens(0, 21)).await.is_allowed());
    assert_eq!(calls.tells(None, tokens(0, 19)).await, NOTHING);
}

/// It opens no window again.
pub async fn a_small_step_back_tells_nothing_again(store: impl StoreUnderTest) {
    let calls = Calls::at_noon(&store).await;
    assert_eq!(calls.tells(None, tokens(0, 80)).await, ["80 % of global/minute/tokens"]);
    calls.world.clock.set(at_noon_and(-1));
    assert_eq!(calls.tells(None, tokens(0, 10)).await, NOTHING);
}

/// Cleared, over, and set again: other counts, whose shares are reached anew, also where the day is still the same.
pub async fn a_scope_that_is_counted_anew_tells_anew(store: impl StoreUnderTest) {
    let per_minute = limits(|l| l.tokens_per_minute(100));
    let calls = Calls::of(&store, named("ci").with_asset(asset("m1"), per_minute)).await;
    assert_eq!(calls.tells("m1", tokens(0, 80)).await, ["80 % of m1/minute/tokens"]);
    for limits in [Limits::NONE, per_minute] {
        let assets = [(asset("m1"), limits)].into();
        let changed = calls.world.update(&calls.key, |config| config.assets = assets).await;
        assert!(changed.is_ok());
        calls.world.advance(MINUTE);
    }
    assert_eq!(calls.tells("m1", tokens(0, 80)).await, ["80 % of m1/minute/tokens"]);
}

/// Sixty-four callers, each of whom reserves, gives most of it back, and calls on: one of them is told.
pub async fn of_many_callers_one_is_told(store: impl StoreUnderTest) {
    let all = limits(|l| l.requests_per_minute(CALLS).tokens_per_day(10 * CALLS));
    let config = named("busy").with_global(all).with_asset(asset("m1"), requests_per_day(CALLS));
    let config = config.with_budget(millionths(CALLS));
    let calls = Arc::new(Calls::of(&store, config).await);
    let told = race(&calls, |calls, task| async move {
        let (id, charge) = (format!("r{task}"), tokens(4, 16).with_credits(millionths(2)));
        let reserved = calls.try_reserve(&id, Some("m1"), charge, DAY).await;
        let mut told = crossed(&reserved.expect("it is new"));
        let actual = output(1).with_credits(millionths(1));
        told.extend(calls.settle(&id, actual).await.expect("the reservation is known").crossed);
        for call in 1..ROUNDS {
            let charge = tokens(5, 5).with_credits(millionths(1));
            let decision = if call % 2 == 0 {
                calls.world.check(&calls.key, "m1", charge).await
            } else {
                let id = format!("q{task}/{call}");
                calls.check_once(&id, Some("m1"), charge).await.expect("it is new")
            };
            told.extend(crossed(&decision));
        }
        told
    })
    .await;
    let requests = ["80 % of global/minute/requests", "100 % of global/minute/requests"];
    let day = ["80 % of global/day/tokens"];
    let asset = ["80 % of m1/day/requests", "100 % of m1/day/requests"];
    let budget = ["80 % of the budget", "100 % of the budget"];
    let expected = requests.iter().chain(&day).chain(&asset).chain(&budget);
    let mut expected: Vec<_> = expected.map(|words| ((*words).to_owned(), 1)).collect();
    expected.sort();
    let counted = counted(&told).into_iter().map(|((words, _), times)| (words, times));
    assert_eq!(counted.collect::<Vec<_>>(), expected);
}

/// The minute ends while they call: no window is told of twice, and the day, which goes on, once.
pub async fn a_window_that_ends_amid_calls_is_told_of_once(store: impl StoreUnderTest) {
    let both = limits(|l| l.requests_per_minute(200).requests_per_day(300));
    let calls = Arc::new(Calls::of(&store, named("busy").with_global(both)).await);
    let mut told = race(&calls, |calls, task| async move {
        let mut told = Vec::new();
        for call in 0..ROUNDS {
            if (task, call) == (0, ROUNDS / 2) {
                calls.world.advance(MINUTE);
            }
            told.extend(crossed(&calls.world.check(&calls.key, None, Charge::request()).await));
        }
        told
    })
    .await;
    // Whatever was left of this minute and of the day is used up in this one and the next.
    for _ in 0..2 {
        loop {
            let decision = calls.world.check(&calls.key, None, Charge::request()).await;
            told.extend(crossed(&decision));
            if !decision.is_allowed() {
                break;
            }
        }
        calls.world.advance(MINUTE);
    }
    let told = counted(&told);
    assert!(told.values().all(|times| *times == 1), "{told:#?}");
    for words in ["80 % of global/day/requests", "100 % of global/day/requests"] {
        assert!(told.contains_key(&(words.to_owned(), Some(MIDNIGHT))), "{words}: {told:#?}");
    }
}

/// Lets all callers begin at once, and collects what they are told.
async fn race<S: Store, Told>(
    calls: &Arc<Calls<S>>,
    caller: impl Fn(Arc<Calls<S>>, usize) -> Told,
) -> Vec<Crossing>
where
    Told: Future<Output = Vec<Crossing>> + Send + 'static,
{
    let start = Arc::new(Barrier::new(CALLERS));
    let tasks: Vec<_> = (0..CALLERS)
        .map(|task| {
            let (start, calling) = (start.clone(), caller(calls.clone(), task));
            tokio::spawn(async move {
                start.wait().await;
                calling.await
            })
        })
        .collect();
    let mut told = Vec::new();
    for task in tasks {
        told.extend(task.await.expect("no task panics"));
    }
    told
}

/// What a decision tells; a denial tells nothing.
fn crossed(decision: &Decision) -> Vec<Crossing> {
    decision.allowed().map(|allowed| allowed.crossed().to_vec()).unwrap_or_default()
}

/// How often each was told, of each window.
fn counted(told: &[Crossing]) -> BTreeMap<(String, Option<Timestamp>), usize> {
    let mut times = BTreeMap::new();
    for (crossing, words) in told.iter().zip(in_words(told)) {
        *times.entry((words, crossing.resets_at)).or_default() += 1;
    }
    times
}

const CALLERS: usize = 64;
/// Of each caller.
const ROUNDS: usize = 10;
/// As many as all callers make.
const CALLS: u64 = 640;
