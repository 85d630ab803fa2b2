//! Random histories, and those that were committed: the store answers every operation as the model does.

use std::fs;
use std::path::{Path, PathBuf};

use limiter_core::Store;

use super::StoreUnderTest;
use super::property::{Broken, cases, holds_for_histories, player};
use crate::model::Model;
use crate::player::Player;
use crate::replay::{Answer, Line, Operation, Problem, read};

/// Charges of all shapes, a clock that stands, moves, steps back and jumps, limits, budgets and expiries changed at any
/// moment, keys deleted and made again: after each operation, the answers are the same.
pub async fn random_histories_agree_with_the_model(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 1), |history| async move {
        agrees_with_the_model(player(store).await, &history).await
    });
}

/// A handle is obtained by the first call of a key and an asset, and kept: it sees changes, expiry and deletion at once.
pub async fn random_histories_through_handles_agree_with_the_model(store: impl StoreUnderTest) {
    let store = &store;
    holds_for_histories(cases(store, 1), |history| async move {
        agrees_with_the_model(player(store).await.through_handles(), &history).await
    });
}

/// The histories in the folder `histories` of this crate: instructive ones, and failures of the past.
pub async fn committed_histories_agree_with_the_model(store: impl StoreUnderTest) {
    for (file, lines) in committed("histories") {
        let player = player(&store).await;
        if let Err(broken) = agrees_with_the_model(player, &operations(&lines)).await {
            panic!("{}: {broken}", file.display());
        }
    }
}

/// The same through handles.
pub async fn committed_histories_through_handles_agree_with_the_model(store: impl StoreUnderTest) {
    for (file, lines) in committed("histories") {
        let player = player(&store).await.through_handles();
        if let Err(broken) = agrees_with_the_model(player, &operations(&lines)).await {
            panic!("{}: {broken}", file.display());
        }
    }
}

/// Beside most of those histories lie the answers that people have worked out and agreed upon.
pub async fn committed_histories_are_answered_as_committed(store: impl StoreUnderTest) {
    for (file, lines) in committed("histories") {
        answers_as_committed(player(&store).await, &file, &lines).await;
    }
}

/// Plays a history, and compares the answers with those that lie beside it, if any do.
pub(super) async fn answers_as_committed(
    mut player: Player<impl Store>,
    file: &Path,
    lines: &[Line],
) {
    let Ok(expected) = fs::read_to_string(answers_to(file)) else { return };
    let mut answers = String::new();
    for line in lines {
        let answer = match line {
            Line::Operation(operation) => play(&mut player, operation).await,
            Line::Invalid => Ok(Answer::Error(Problem::Invalid)),
        };
        answers += &answer.unwrap_or_else(|broken| panic!("{broken}")).to_line();
        answers.push('\n');
    }
    assert_eq!(answers, expected, "{}", file.display());
}

/// Plays a history on a store and on the model, until their answers differ.
///
/// What the specification leaves open is not asked, neither here nor there.
pub(super) async fn agrees_with_the_model(
    player: Player<impl Store>,
    history: &[Operation],
) -> Result<(), Broken> {
    agrees_with(Model::new(), player, history).await
}

/// The same with a model that knows the bounds of the store.
pub(super) async fn agrees_with(
    mut model: Model,
    mut player: Player<impl Store>,
    history: &[Operation],
) -> Result<(), Broken> {
    for (index, operation) in history.iter().enumerate() {
        if !model.specifies(operation) {
            continue;
        }
        let expected = model.answer(operation);
        let answer = play(&mut player, operation).await?;
        if answer != expected {
            return Err(format!(
                "line {} is answered wrongly: {}\n  the model answers {}\n  the store answers {}",
                index + 1,
                operation.to_line(),
                whole(&expected),
                whole(&answer)
            ));
        }
    }
    Ok(())
}

/// The line of an answer, and what it leaves out.
fn whole(answer: &Answer) -> String {
    match (answer, answer.crossed()) {
        (Answer::TooMany { retry_at }, _) => format!("{} until {retry_at}", answer.to_line()),
        (_, []) => answer.to_line(),
        (_, crossed) => format!("{} and tells {crossed:?}", answer.to_line()),
    }
}

pub(super) async fn play(
    player: &mut Player<impl Store>,
    operation: &Operation,
) -> Result<Answer, Broken> {
    let answer = player.play(operation).await;
    answer.map_err(|error| format!("{} has no answer: {error}", operation.to_line()))
}

/// The histories in a folder of this crate.
pub(super) fn committed(folder: &str) -> Vec<(PathBuf, Vec<Line>)> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = fs::read_dir(&folder).expect("the folder of histories is here");
    let files = entries.map(|entry| entry.expect("the folder can be read").path());
    let histories = files.filter(|file| file.extension().is_some_and(|end| end == "jsonl"));
    let mut histories: Vec<_> = histories.map(|file| (file.clone(), lines(&file))).collect();
    assert!(!histories.is_empty(), "{} has no histories", folder.display());
    histories.sort_by(|(one, _), (other, _)| one.cmp(other));
    histories
}

fn lines(file: &Path) -> Vec<Line> {
    let text = fs::read_to_string(file).expect("a history is a text file");
    let lines = text.lines().enumerate().map(|(index, line)| {
        read(line).unwrap_or_else(|unreadable| {
            panic!("{}, line {}: {unreadable}", file.display(), index + 1)
        })
    });
    lines.collect()
}

/// Without the lines that are out of bounds, whose answer needs no store.
pub(super) fn operations(lines: &[Line]) -> Vec<Operation> {
    let operations = lines.iter().filter_map(|line| match line {
        Line::Operation(operation) => Some(operation.clone()),
        Line::Invalid => None,
    });
    operations.collect()
}

fn answers_to(file: &Path) -> PathBuf {
    let (folder, name) = (file.parent(), file.file_name());
    let (folder, name) = folder.zip(name).expect("a file in the folder of histories");
    folder.join("answers").join(name)
}
