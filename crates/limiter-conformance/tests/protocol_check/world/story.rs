//! A path in words.

use std::fmt;

use stateright::Path;

use super::{INSTANTS, State, Step};

/// Describes the steps of a path, one a line.
pub(crate) fn story(path: Path<State, Step>) -> String {
    let (states, steps): (Vec<_>, Vec<_>) = path.into_vec().into_iter().unzip();
    let lines = steps.iter().flatten().zip(&states[1..]).map(|(step, state)| {
        let wrong =
            state.wrong.as_ref().map_or_else(String::new, |wrong| format!("\n    → {wrong:?}"));
        let waits = state.clients.iter().zip(["A", "B"]).filter_map(|(client, name)| {
            let busy = client.busy.as_ref()?;
            Some(format!(
                "; {name} goes on with {} ({:?}, {} failed)",
                busy.call, busy.phase, busy.failed
            ))
        });
        format!("  {}  {step}{}{wrong}\n", state.now(), waits.collect::<String>())
    });
    lines.collect()
}

impl fmt::Display for Step {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |client: &usize| ["A", "B"][*client];
        let lost = |loses: &bool| if *loses { ", and the answer is lost" } else { "" };
        match self {
            Self::Begins { client, call, lags, loses } => {
                let lags = if *lags { " by a clock that stood still" } else { "" };
                write!(f, "{}: {call}{lags}{}", name(client), lost(loses))
            }
            Self::GoesOn { client, loses } => write!(f, "{} goes on{}", name(client), lost(loses)),
            Self::GivesUp { client } => {
                write!(f, "{} gives up, and its request is still under way", name(client))
            }
            Self::Arrives => f.write_str("the late request arrives"),
            Self::Crashes { client } => write!(f, "{} crashes and starts again", name(client)),
            Self::Moves(to) => write!(f, "the clock moves to {}", INSTANTS[*to]),
        }
    }
}
