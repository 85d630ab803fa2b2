//! Histories with reservations: the store answers every operation as the model does.

use super::StoreUnderTest;
use super::histories::{
    agrees_with, agrees_with_the_model, answers_as_committed, committed, operations,
};
use super::property::{bounded_player, cases, holds_for_reservations, ledger_bounds, player};
use super::small_world::{depth, play_all};
use crate::generate::reserved_world;
use crate::model::{Bounds, Model};

/// Calls reserved, extended, settled, cancelled and repeated among all else that histories do: windows that close in
/// between, limits that change or go, ttls that pass, figures as large as they may be.
pub async fn random_reservations_agree_with_the_model(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_reservations(cases(store, 1), |history| async move {
        agrees_with_the_model(player(store).await, &history).await
    });
}

/// The same where a key remembers hardly any of them: refused at each of the bounds, and admitted again when there is room.
pub async fn random_reservations_at_small_bounds_agree_with_the_model(store: impl StoreUnderTest) {
    let store = &store;
    for bounds in [Bounds { open: 1, ended: 2, checks: 1 }, Bounds { open: 2, ended: 1, checks: 1 }]
    {
        holds_for_reservations(cases(store, 4), |history| async move {
            let player = bounded_player(store, ledger_bounds(bounds)).await;
            agrees_with(Model::bounded(bounds), player, &history).await
        });
    }
}

/// The same where the calls between go through handles.
pub async fn random_reservations_beside_handles_agree_with_the_model(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_reservations(cases(store, 4), |history| async move {
        let player = player(store).await.through_handles();
        agrees_with_the_model(player, &history).await
    });
}

/// All sequences of up to four letters, or as many as `LIMITER_TEST_DEPTH` says.
pub async fn every_short_reservation_agrees_with_the_model(store: impl StoreUnderTest) {
    let histories = reserved_world(depth(&store));
    play_all(store, histories, Bounds::default(), |player| player).await;
}

/// The same where a key remembers one of each kind, one letter less deep.
pub async fn every_short_reservation_at_small_bounds_agrees_with_the_model(
    store: impl StoreUnderTest,
) {
    let histories = reserved_world(depth(&store).saturating_sub(1));
    let one = Bounds { open: 1, ended: 1, checks: 1 };
    play_all(store, histories, one, |player| player).await;
}

/// The histories in the folder `histories/reservations` of this crate.
pub async fn committed_reservations_agree_with_the_model(store: impl StoreUnderTest) {
    for (file, lines) in committed(FOLDER) {
        let player = player(&store).await;
        if let Err(broken) = agrees_with_the_model(player, &operations(&lines)).await {
            panic!("{}: {broken}", file.display());
        }
    }
}

/// The answers beside them were worked out by hand.
pub async fn committed_reservations_are_answered_as_committed(store: impl StoreUnderTest) {
    for (file, lines) in committed(FOLDER) {
        answers_as_committed(player(&store).await, &file, &lines).await;
    }
}

const FOLDER: &str = "histories/reservations";
