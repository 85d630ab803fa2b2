//! The last denials of each key, as this process decided them, for the console.

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use limiter::decision::LimitExceeded;
use limiter::{Decision, DenialReason, Denied, KeyId};
use parking_lot::Mutex;

/// The last denials, by key and by the group whose limit denied the call.
#[derive(Debug, Default)]
pub(crate) struct Denials(Mutex<Kept>);

#[derive(Debug, Default)]
struct Kept {
    /// The latest of each at the end.
    of_level: HashMap<KeyId, VecDeque<Arc<Denied>>>,
    /// The levels in the order in which they came; the first makes room for the next.
    levels: VecDeque<KeyId>,
}

impl Denials {
    /// Keeps a denial.
    pub(crate) fn keep(&self, key: &KeyId, denied: &Denied) {
        let group = match denied.reason() {
            DenialReason::KeyExpired { group, .. } | DenialReason::AssetDenied { group } => {
                group.clone()
            }
            _ => denied.exceeded().and_then(LimitExceeded::binding).and_then(|rule| rule.group),
        };
        let denied = Arc::new(denied.clone());
        let mut kept = self.0.lock();
        for level in [Some(key), group.as_ref()].into_iter().flatten() {
            kept.keep(level, Arc::clone(&denied));
        }
    }

    /// Keeps a decision if it is a denial.
    pub(crate) fn keep_of(&self, key: &KeyId, decision: &Decision) {
        if let Decision::Denied(denied) = decision {
            self.keep(key, denied);
        }
    }

    /// Returns the denials of a key, or by the limits of a group, the latest first.
    pub(crate) fn of(&self, level: &KeyId) -> Vec<Arc<Denied>> {
        let kept = self.0.lock();
        kept.of_level.get(level).into_iter().flatten().rev().cloned().collect()
    }
}

impl Kept {
    fn keep(&mut self, level: &KeyId, denied: Arc<Denied>) {
        if !self.of_level.contains_key(level) {
            if self.levels.len() >= MOST_LEVELS
                && let Some(first) = self.levels.pop_front()
            {
                self.of_level.remove(&first);
            }
            self.levels.push_back(level.clone());
        }
        let last = self.of_level.entry(level.clone()).or_default();
        if last.len() >= MOST_OF_LEVEL {
            last.pop_front();
        }
        last.push_back(denied);
    }
}

/// Some megabytes in all.
const MOST_LEVELS: usize = 1_000;
/// As many as one looks at.
const MOST_OF_LEVEL: usize = 20;

#[cfg(test)]
mod tests {
    use limiter::{Charge, KeyConfig, Limiter, Limits, NewKey};

    use super::*;

    async fn a_denial() -> Denied {
        let limiter = Limiter::in_memory();
        let owner = limiter.workspace("team").unwrap();
        let none = Limits::builder().requests_per_day(0).build().unwrap();
        let config = KeyConfig::named("acme").unwrap().with_global(none);
        owner.create(NewKey::group("acme".parse().unwrap(), config)).await.unwrap();
        let key: KeyId = "acme/ci".parse().unwrap();
        let new = NewKey::member(KeyConfig::named("ci").unwrap()).with_id(key.clone());
        owner.create(new.without_access_key()).await.unwrap();
        match limiter.check_and_consume(&key, None, &Charge::request()).await.unwrap() {
            Decision::Denied(denied) => denied,
            allowed => panic!("{allowed:?}"),
        }
    }

    #[tokio::test]
    async fn the_last_denials_are_kept_for_the_key_and_for_the_group_whose_limit_it_was() {
        let (denials, denied) = (Denials::default(), a_denial().await);
        let id = |id: &str| id.parse::<KeyId>().unwrap();
        for _ in 0..MOST_OF_LEVEL + 5 {
            denials.keep(&id("acme/ci"), &denied);
        }
        denials.keep(&id("acme/cd"), &denied);
        assert_eq!(denials.of(&id("acme/ci")).len(), MOST_OF_LEVEL);
        assert_eq!(denials.of(&id("acme/cd")).len(), 1);
        assert_eq!(denials.of(&id("acme")).len(), MOST_OF_LEVEL);
        assert_eq!(*denials.of(&id("acme"))[0], denied);

        for number in 0..MOST_LEVELS {
            denials.keep(&id(&format!("acme/{number}")), &denied);
        }
        assert!(denials.of(&id("acme/ci")).is_empty(), "it came first, and makes room");
        assert_eq!(denials.of(&id("acme/999")).len(), 1);
    }
}
