//! A store in memory with injected faults: it goes away, loses answers and refuses. Clones share it.

use std::collections::HashSet;
use std::sync::Arc;

use limiter_conformance::{Around, Called, Interpose};
use limiter_core::{CallError, KeyId, RequestId, Store, StoreError};
use limiter_memory::MemoryStore;
use parking_lot::Mutex;

pub(crate) type Flaky = Around<Faulty>;

#[derive(Clone, Debug)]
pub(crate) struct Faulty {
    pub(crate) inner: MemoryStore,
    faults: Arc<Mutex<Faults>>,
}

#[derive(Debug, Default)]
struct Faults {
    is_away: bool,
    loses_answers: bool,
    damaged: HashSet<KeyId>,
    records: Vec<(KeyId, RequestId)>,
}

pub(crate) fn flaky(inner: MemoryStore) -> Flaky {
    Around(Faulty { inner, faults: Arc::default() })
}

impl Faulty {
    pub(crate) fn goes_away(&self) {
        self.faults.lock().is_away = true;
    }

    pub(crate) fn comes_back(&self) {
        let mut faults = self.faults.lock();
        (faults.is_away, faults.loses_answers) = (false, false);
    }

    /// Loses answers from now on: it answers probes and makes charges, but no answer to a charge arrives.
    pub(crate) fn loses_answers(&self) {
        let mut faults = self.faults.lock();
        (faults.is_away, faults.loses_answers) = (false, true);
    }

    pub(crate) fn damages(&self, key: &KeyId) {
        self.faults.lock().damaged.insert(key.clone());
    }

    pub(crate) fn repairs(&self, key: &KeyId) {
        self.faults.lock().damaged.remove(key);
    }

    /// The ids of this key's records that the store was asked to count.
    pub(crate) fn recorded(&self, key: &KeyId) -> Vec<RequestId> {
        let faults = self.faults.lock();
        let of_key = faults.records.iter().filter(|(of, _)| of == key);
        of_key.map(|(_, id)| id.clone()).collect()
    }

    /// Fails a call to a store that is away, or about a key whose record is damaged.
    fn before(&self, called: Called<'_>) -> Result<(), StoreError> {
        let mut faults = self.faults.lock();
        if faults.is_away {
            return Err(StoreError::unavailable("the store is away"));
        }
        if let ("record", Some(key), Some(id)) = (called.operation, called.key, called.id) {
            faults.records.push((key.clone(), id.clone()));
        }
        let changes_the_key = matches!(called.operation, "create" | "update" | "delete");
        if called.key.is_some_and(|key| faults.damaged.contains(key)) && !changes_the_key {
            return Err(StoreError::Corrupt("the record is damaged".into()));
        }
        Ok(())
    }
}

impl Interpose for Faulty {
    fn store(&self) -> &dyn Store {
        &self.inner
    }

    async fn call<T: Send, E: CallError>(
        &self,
        called: Called<'_>,
        call: impl Future<Output = Result<T, E>> + Send,
    ) -> Result<T, E> {
        self.before(called)?;
        let answer = call.await;
        if called.charges() && self.faults.lock().loses_answers {
            return Err(StoreError::outcome_unknown("the connection broke").into());
        }
        answer
    }
}
