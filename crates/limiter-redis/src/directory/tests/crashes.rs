//! A client stops after each step of each change. Its steps stand or are undone, and other clients notice it for a lease at
//! most.

use std::time::Duration;

use limiter_core::{KeysError, NewRecord, StoreError};
use tokio::time::sleep;

use super::super::Waiting;
use super::super::change::{Begin, Change, Entry, Finish, Intent, Need};
use super::super::pointer::{Pointer, Set};
use super::{
    LEASE, World, admin, config, home, id, member, rotation, secret_of, some_day, update,
    with_secret,
};
use crate::records::Undone;
use crate::servers::faults::Fault;

const SECRET: &str = "abcd-of-the-crashed-wxyz";
const STEPS: usize = 3;

/// Takes the first steps of creating a key, and stops.
async fn creating(world: &World, key: &NewRecord, steps: usize) -> Change {
    let (pointed, created) = (usize::from(steps > 1), usize::from(steps > 2));
    world.stop_creating(std::slice::from_ref(key), pointed, created).await
}

#[tokio::test]
async fn a_crashed_bootstrap_counts_if_its_key_exists() {
    for steps in 1..=STEPS {
        let world = World::with_short_lease().await;
        let key = with_secret(NewRecord { bootstraps: true, ..admin("first") }, SECRET);
        creating(&world, &key, steps).await;
        // It waits for the lease to end.
        let again = world.create(NewRecord { bootstraps: true, ..admin("second") }).await;
        if steps == STEPS {
            assert_is!(again, Err(KeysError::AlreadyBootstrapped));
            assert_is!(world.delete("first").await, Err(KeysError::LastAdmin));
        } else {
            again.unwrap();
        }
    }
}

#[tokio::test]
async fn a_crashed_deletion_is_healed() {
    for steps in 1..=3 {
        let world = World::with_short_lease().await;
        world.create(admin("other")).await.unwrap();
        world.create(with_secret(admin("ci"), SECRET)).await.unwrap();
        let digest = secret_of(SECRET).digest;
        let held = world.directory.pointers.read(&digest).await.unwrap().unwrap();
        let pointer = Pointer { digest, claim: held.claim };
        let ci = id("ci");
        let intent = Intent {
            ceases_as_admin: Some(&ci),
            ..Intent::with_pointers(&ci, vec![pointer.clone()])
        };
        let change = world.begin(&intent).await;
        if steps > 1 {
            let deleted = world.directory.records.delete(&home(), &ci, &[], change.not_after).await;
            assert_is!(deleted, Ok(true));
        }
        if steps > 2 {
            world.directory.pointers.remove(&pointer).await.unwrap();
        }
        let exists = steps == 1;
        assert_eq!(world.names().await.len(), if exists { 2 } else { 1 });
        assert_eq!(world.resolve(SECRET).await, exists.then(|| ci.clone()));
        // It waits for the lease to end. After the deletion, the other one is the last.
        let other = world.delete("other").await;
        if exists {
            other.unwrap();
            assert_eq!(world.resolve(SECRET).await, Some(ci));
        } else {
            assert_is!(other, Err(KeysError::LastAdmin));
            let pointer = world.directory.pointers.read(&digest).await.unwrap();
            assert_eq!(pointer, None, "it was removed");
        }
        assert_eq!(world.indexed_names().await, world.names().await);
    }
}

#[tokio::test]
async fn a_crashed_update_is_healed() {
    for updated in [false, true] {
        let world = World::with_short_lease().await;
        world.create(admin("other")).await.unwrap();
        world.create(with_secret(admin("old"), SECRET)).await.unwrap();
        let (key, config) = (id("old"), config("new").with_expiry(some_day()));
        let need = Need { id: &key, name: Some(&config.name), masked: None };
        let intent = Intent { needs: vec![need], ceases_as_admin: Some(&key), ..Intent::of(&key) };
        let change = world.begin(&intent).await;
        if updated {
            let not_after = Some(change.not_after);
            let update = update("old", 1, &config);
            let update = world.directory.records.update(&home(), &update, not_after).await;
            assert_is!(update, Ok(_));
        }
        let shown = if updated { ["new", "other"] } else { ["old", "other"] };
        assert_eq!(world.names().await, shown, "before the lease ends");
        sleep(LEASE).await;

        let free = if updated { "old" } else { "new" };
        world.create(NewRecord { id: id("another"), ..member(free) }).await.unwrap();
        let taken = world.create(NewRecord { id: id("more"), ..member(shown[0]) }).await;
        assert_is!(taken, Err(KeysError::NameTaken(_)));
        let deleted = world.delete("other").await;
        assert_eq!(deleted.is_ok(), !updated, "the other is the last if the update happened");
        assert_eq!(world.names().await, world.indexed_names().await);
    }
}

#[tokio::test]
async fn a_crashed_rotation_is_healed() {
    let new = "efgh-of-the-rotation-stuv";
    for steps in 1..=4 {
        let world = World::with_short_lease().await;
        world.create(with_secret(member("ci"), SECRET)).await.unwrap();
        let before = world.keys_in_redis().await;
        let rotation = rotation("ci", new, Duration::ZERO);
        let (ci, digest) = (id("ci"), secret_of(SECRET).digest);
        let (directory, records) = (&world.directory, &world.directory.records);
        let old = directory.pointers_of(&ci, [digest]).await.unwrap();
        let mut intent = Intent::with_pointers(&ci, old.clone());
        let claimed = Pointer { digest: rotation.secret.digest, claim: intent.token.clone() };
        intent.note(&ci, claimed);
        let change = world.begin(&intent).await;
        if steps > 1 {
            let set = directory.pointers.set(&change, &rotation.secret.digest, &ci, None).await;
            assert_is!(set, Ok(Set::Pointed));
        }
        if steps > 2 {
            let found = records.read(&ci).await.unwrap().unwrap();
            let rotated = found.stored.clone().rotated(&rotation, found.now);
            records.rotate(&found, &rotated, change.not_after).await.unwrap();
        }
        if steps > 3 {
            directory.pointers.remove(&old[0]).await.unwrap();
        }
        let (works, ended) = if steps > 2 { (new, SECRET) } else { (SECRET, new) };
        let check = async |when: &str| {
            assert_eq!(world.resolve(works).await, Some(ci.clone()), "{when}, {steps}");
            assert_eq!(world.resolve(ended).await, None, "{when}, {steps}");
        };
        check("before the lease ends").await;
        sleep(LEASE).await;
        assert_eq!(world.names().await, ["ci"]);
        assert!(!world.is_changing().await);
        check("when it is healed").await;
        assert_eq!(world.keys_in_redis().await, before, "{steps}");
        world.create(with_secret(member("other"), ended)).await.unwrap();
        let alike = with_secret(member("alike"), &works.replace("-of-", "-as-"));
        assert_is!(world.create(alike).await, Err(KeysError::AccessKeyTaken));
    }
}

#[tokio::test]
async fn a_client_that_wakes_up_late_changes_nothing() {
    let world = World::with_short_lease().await;
    world.create(member("old")).await.unwrap();
    let key = with_secret(member("ci"), SECRET);
    let change = creating(&world, &key, 1).await;
    sleep(LEASE).await;

    // No client has taken it over yet, and still its steps on other slots are refused.
    let records = &world.directory.records;
    let digest = secret_of(SECRET).digest;
    let set = world.directory.pointers.set(&change, &digest, &key.id, None).await;
    assert_is!(set, Ok(Set::TooLate));
    assert_is!(records.create(&key, change.not_after).await, Err(Undone::TooLate));
    assert_is!(
        records.delete(&home(), &id("old"), &[], change.not_after).await,
        Err(Undone::TooLate)
    );
    let updated =
        records.update(&home(), &update("old", 1, &config("new")), Some(change.not_after)).await;
    assert_is!(updated, Err(Undone::TooLate));

    // Another client takes over and is at work: the first can neither finish nor abandon.
    let created = world.create(member("next")).await.unwrap();
    let of_next = id("next");
    let next = world.begin(&Intent::of(&of_next)).await;
    let entry = Entry::of(&created, None);
    let finished = world.directory.changes.finish(&change, &[(&key.id, Some(entry))]).await;
    assert_eq!(finished.unwrap(), Finish::Lost, "the change is another's");
    world.directory.changes.abandon(&change).await.unwrap();
    assert!(world.is_changing().await, "the change of the other goes on");
    world.directory.changes.abandon(&next).await.unwrap();
    assert!(!world.is_changing().await);
    assert_eq!(world.names().await, ["next", "old"]);
}

#[tokio::test]
async fn only_one_client_takes_over_and_has_a_lease_of_its_own() {
    let world = World::with_short_lease().await;
    creating(&world, &with_secret(member("ci"), SECRET), 3).await;
    sleep(LEASE).await;
    let other = id("other");
    let taken_over = world.directory.changes.begin(&home(), &Intent::of(&other)).await;
    let Ok(Begin::Crashed(_, journal)) = &taken_over else { panic!("{taken_over:?}") };
    let [noted] = journal.as_slice() else { panic!("{journal:?}") };
    assert_eq!(noted.id, id("ci"));
    assert_eq!(noted.pointer.as_ref().map(|p| p.digest), Some(secret_of(SECRET).digest));
    let second = world.directory.changes.begin(&home(), &Intent::of(&other)).await;
    assert_is!(second, Ok(Begin::Busy));
    // The healer crashes too.
    sleep(LEASE).await;
    assert_eq!(world.names().await, ["ci"]);
    assert!(!world.is_changing().await);
}

#[tokio::test]
async fn a_caller_that_waits_too_long_gets_an_error() {
    let waiting = Waiting { patience: LEASE, ..Waiting::default() };
    let world = World::waiting(waiting).await;
    creating(&world, &with_secret(member("ci"), SECRET), 1).await;
    let busy = world.create(member("other")).await;
    let Err(KeysError::Store(StoreError::Unavailable(source))) = busy else { panic!("{busy:?}") };
    assert!(source.to_string().contains("other changes"), "{source}");
    assert!(world.names().await.is_empty(), "a listing does not wait");
}

#[tokio::test]
async fn a_claim_of_another_workspace_holds_until_its_lease_ends() {
    let world = World::with_short_lease().await;
    creating(&world, &with_secret(member("ci"), SECRET), 2).await;
    let elsewhere = || NewRecord {
        workspace: "elsewhere".parse().unwrap(),
        ..with_secret(member("theirs"), SECRET)
    };
    assert_is!(world.create(elsewhere()).await, Err(KeysError::AccessKeyTaken));
    sleep(LEASE * 2).await;
    // The first workspace was never looked at again, and its crash is not in the way.
    world.create(elsewhere()).await.unwrap();
    assert_eq!(world.resolve(SECRET).await, Some(id("theirs")));
    // Healing it does not touch the pointer that is another's now.
    world.names().await;
    assert!(!world.is_changing().await);
    assert_eq!(world.resolve(SECRET).await, Some(id("theirs")));
}

/// Once, the client that had taken over a change and lost the answer ended it as its own, unhealed: the key decided
/// calls, but was never listed, and another could get its name.
#[tokio::test]
async fn a_take_over_whose_answer_is_lost_leaves_the_change_to_be_healed() {
    let world = World::with_short_lease().await;
    creating(&world, &with_secret(member("ci"), SECRET), STEPS).await;
    sleep(LEASE).await;
    world.servers.faults.once("workspace_begin", Fault::AnswerLost);
    let created = world.create(member("other")).await;
    assert_is!(created, Err(KeysError::Store(StoreError::Unavailable(_))));
    assert!(world.is_changing().await, "the journal is still there");
    sleep(LEASE).await;
    let of_name = NewRecord { id: id("of the same name"), ..member("ci") };
    assert_is!(world.create(of_name).await, Err(KeysError::NameTaken(_)));
    assert_eq!(world.indexed_names().await, ["ci"]);
}
