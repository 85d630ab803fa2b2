//! Makes a history that fails smaller, as long as it fails.

use crate::history::{Action, History};
use crate::world::{Divergence, World};

/// The smallest history that was found to fail, and how it does.
pub(crate) async fn shrunk(
    world: &mut World,
    mut history: History,
    mut divergence: Divergence,
) -> (History, Divergence) {
    let mut chunk = history.rounds.len().div_ceil(2);
    loop {
        let mut shorter = Vec::new();
        for start in (0..history.rounds.len()).step_by(chunk) {
            let mut rounds = history.rounds.clone();
            rounds.drain(start..(start + chunk).min(rounds.len()));
            shorter.push(rounds);
        }
        if chunk == 1 {
            for (number, round) in history.rounds.iter().enumerate() {
                let Action::Calls(calls) = &round.action else { continue };
                for call in (0..calls.len()).filter(|_| calls.len() > 1) {
                    let mut calls = calls.clone();
                    calls.remove(call);
                    let mut rounds = history.rounds.clone();
                    rounds[number].action = Action::Calls(calls);
                    shorter.push(rounds);
                }
            }
        }
        let mut found = false;
        for rounds in shorter {
            let candidate = History { rounds, compare_every: 1, ..history.clone() };
            if let Err(why) = world.run(&candidate).await {
                (history, divergence, found) = (candidate, why, true);
                break;
            }
        }
        if !found && chunk == 1 {
            return (history, divergence);
        }
        if !found {
            chunk = chunk.div_ceil(2);
        }
    }
}
