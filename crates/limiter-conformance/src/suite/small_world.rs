//! Every short history over a small alphabet.

use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use super::StoreUnderTest;
use super::histories::agrees_with;
use super::property::{bounded_player, ledger_bounds, number_from};
use crate::generate::{Sequences, small_world};
use crate::model::{Bounds, Model};
use crate::player::Player;
use crate::replay::to_jsonl;

/// All sequences of up to four letters, or as many as `LIMITER_TEST_DEPTH` says.
pub async fn every_short_history_agrees_with_the_model(store: impl StoreUnderTest) {
    let histories = small_world(depth(&store));
    play_all(store, histories, Bounds::default(), |player| player).await;
}

/// The same through handles, one letter less deep.
pub async fn every_short_history_through_handles_agrees_with_the_model(store: impl StoreUnderTest) {
    let histories = small_world(depth(&store).saturating_sub(1));
    play_all(store, histories, Bounds::default(), Player::through_handles).await;
}

/// Plays all of them, each on an empty store, with as many tasks as there are cores.
pub(super) async fn play_all<T: StoreUnderTest, L>(
    store: T,
    histories: Sequences<L>,
    bounds: Bounds,
    way: fn(Player<T::Store>) -> Player<T::Store>,
) where
    L: Copy + Send + Sync + 'static,
{
    let (total, letters) = (histories.total(), histories.letters());
    let (store, histories) = (Arc::new(store), Arc::new(Mutex::new(histories)));
    let tasks = thread::available_parallelism().map_or(1, usize::from);
    let tasks: Vec<_> = (0..tasks)
        .map(|_| tokio::spawn(play_some(store.clone(), histories.clone(), bounds, way)))
        .collect();
    let mut played = 0;
    for task in tasks {
        played += task.await.expect("every history is answered as the model answers it");
    }
    assert_eq!(played, total);
    println!("{played} histories: every short sequence of {letters} letters");
}

/// Takes histories until none is left, and answers how many it took.
async fn play_some<T: StoreUnderTest, L: Copy>(
    store: Arc<T>,
    histories: Arc<Mutex<Sequences<L>>>,
    bounds: Bounds,
    way: fn(Player<T::Store>) -> Player<T::Store>,
) -> u64 {
    let mut played = 0;
    loop {
        let batch: Vec<_> = {
            let mut histories = histories.lock().unwrap_or_else(PoisonError::into_inner);
            histories.by_ref().take(BATCH).collect()
        };
        if batch.is_empty() {
            return played;
        }
        for history in batch {
            let player = way(bounded_player(&*store, ledger_bounds(bounds)).await);
            if let Err(broken) = agrees_with(Model::bounded(bounds), player, &history).await {
                panic!("{broken}\nThe history:\n{}", to_jsonl(&history));
            }
            played += 1;
        }
    }
}

/// How long the longest histories are for this store.
pub(super) fn depth<T: StoreUnderTest>(_: &T) -> u32 {
    let depth = number_from("LIMITER_TEST_DEPTH").unwrap_or(DEFAULT_DEPTH);
    match T::SLOWNESS {
        0..=1 => depth,
        2..100 => depth.saturating_sub(1),
        100.. => depth.saturating_sub(2),
    }
}

/// 69,905 histories, seconds for a store in memory. One more is a million.
const DEFAULT_DEPTH: u32 = 4;
/// Enough that tasks do not wait for each other to take the next.
const BATCH: usize = 64;
