//! Keys that are created together.

use super::ATTEMPTS;
use super::draft::Draft;
use crate::access_key::Entropy;
use crate::error::{CallError, KeysError, StoreError};
use crate::key::CreatedKey;
use crate::names::WorkspaceId;
use crate::store::Store;

/// Keys that are created together.
pub(super) struct Batch<'a> {
    store: &'a dyn Store,
    entropy: &'a Entropy,
    workspace: WorkspaceId,
    keys: Vec<Progress>,
    failed: bool,
}

/// A key of a batch: to be created, or its result.
enum Progress {
    Left(Box<Draft>),
    Ended(Box<Result<CreatedKey, KeysError>>),
}

impl<'a> Batch<'a> {
    pub(super) fn new(
        store: &'a dyn Store,
        entropy: &'a Entropy,
        workspace: WorkspaceId,
        drafts: impl Iterator<Item = Result<Draft, KeysError>>,
    ) -> Self {
        let begin = |draft| match draft {
            Ok(draft) => Progress::Left(Box::new(draft)),
            Err(error) => Progress::Ended(Box::new(Err(error))),
        };
        Self { store, entropy, workspace, keys: drafts.map(begin).collect(), failed: false }
    }

    pub(super) async fn create(mut self) -> Vec<Result<CreatedKey, KeysError>> {
        for _ in 0..ATTEMPTS {
            let places = 0..self.keys.len();
            let left = |place: &usize| matches!(self.keys[*place], Progress::Left(_));
            let left: Vec<usize> = places.filter(left).collect();
            for part in left.chunks(CREATED_TOGETHER) {
                self.create_part(part).await;
            }
        }
        let result = |key| match key {
            Progress::Ended(result) => *result,
            Progress::Left(_) => Err(KeysError::AccessKeyTaken),
        };
        self.keys.into_iter().map(result).collect()
    }

    async fn create_part(&mut self, places: &[usize]) {
        let (mut records, mut drawn) = (Vec::new(), Vec::new());
        for place in places {
            let Progress::Left(draft) = &self.keys[*place] else { continue };
            if self.failed {
                self.end(*place, Err(StoreError::not_tried().into()));
                continue;
            }
            match draft.draw(self.entropy, &self.workspace, false) {
                Ok((record, access_key)) => {
                    records.push(record);
                    drawn.push((*place, draft.is_generated(), access_key));
                }
                Err(error) => self.end(*place, Err(error)),
            }
        }
        if records.is_empty() {
            return;
        }
        let created = self.store.create_many(records).await;
        let created = created.unwrap_or_else(|error| {
            error.spread(drawn.len()).map(|error| Err(error.into())).collect()
        });
        let mut created = created.into_iter();
        for (place, is_generated, access_key) in drawn {
            match created.next() {
                // Another key has the same prefix and ends as the generated one: it is drawn again.
                Some(Err(KeysError::AccessKeyTaken)) if is_generated => {}
                Some(created) => {
                    self.failed |= matches!(&created, Err(error) if error.is_outage());
                    self.end(place, created.map(|record| CreatedKey { record, access_key }));
                }
                None => self.end(place, Err(StoreError::not_answered().into())),
            }
        }
    }

    fn end(&mut self, place: usize, result: Result<CreatedKey, KeysError>) {
        self.keys[place] = Progress::Ended(Box::new(result));
    }
}

/// The number of keys in one call of the store. Each such call has the deadline of one change of keys, and a caller
/// that goes away stops the next one.
const CREATED_TOGETHER: usize = 100;
