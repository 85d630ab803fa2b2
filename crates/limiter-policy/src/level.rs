//! A key or a group as this process knows it.

use std::sync::Arc;

use limiter_core::{
    AssetId, Effective, KeyConfig, KeyRecord, KeyState, PlanRecord, Thresholds, Timestamp, Usage,
};

use crate::share::Share;

/// The last known state of a key or a group in the store.
#[derive(Debug)]
pub(crate) struct Learned {
    pub(crate) record: KeyRecord,
    /// The configuration in `record`, over that of its plan.
    pub(crate) config: KeyConfig,
    pub(crate) usage: Usage,
}

/// A key or a group by the rules of the core, with a share of each of its limits. All keys beneath a group share it.
#[derive(Debug)]
pub(crate) struct Level {
    pub(crate) state: KeyState,
    share: Share,
    learned: Arc<Learned>,
}

impl Learned {
    /// Creates the state of a key, as read from the store with its plan.
    pub(crate) fn new(record: KeyRecord, plan: Option<&PlanRecord>, usage: Usage) -> Self {
        let config = match plan {
            Some(plan) => KeyConfig { plan: None, ..plan.plan.beneath(&record.config) },
            None => record.config.clone(),
        };
        Self { record, config, usage }
    }
}

impl Level {
    pub(crate) fn new(share: Share, learned: &Arc<Learned>, now: Timestamp) -> Self {
        let (kind, in_force) = (learned.record.kind, share.in_force(learned, None, now));
        let state = KeyState::new(kind, &in_force, Thresholds::NONE, now);
        let mut level = Self { state, share, learned: Arc::clone(learned) };
        level.configure(&share.configured(learned, None), Effective::Next, now);
        level
    }

    /// Takes over a newer state of the store. The local windows and counts stay.
    pub(crate) fn learn(&mut self, learned: &Arc<Learned>, now: Timestamp) {
        if Arc::ptr_eq(&self.learned, learned) {
            return;
        }
        self.learned = Arc::clone(learned);
        let used = Usage::of(&self.state, now);
        let in_force = self.share.in_force(learned, Some(&used), now);
        self.configure(&in_force, Effective::Now, now);
        self.configure(&self.share.configured(learned, Some(&used)), Effective::Next, now);
    }

    /// Returns whether the asset has a scope of its own.
    pub(crate) fn counts(&self, asset: &AssetId) -> bool {
        self.state.assets().any(|(id, _, _)| id == asset)
    }

    /// Returns whether all assets that are not listed are counted together.
    pub(crate) fn counts_others(&self) -> bool {
        self.state.other().is_some()
    }

    fn configure(&mut self, config: &KeyConfig, effective: Effective, now: Timestamp) {
        // This cannot fail: a record has no more assets than a key may have.
        let _ = self.state.configure(config, Thresholds::NONE, effective, now);
    }
}
