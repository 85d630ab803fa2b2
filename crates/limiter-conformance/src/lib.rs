//! Tests for every store of the engine.
//!
//! - [`replay`] is the replay format: one operation a line, one answer a line, as typed data.
//! - [`model`] is a slow, obviously right model of the specification. It shares no rule with the engine.
//! - [`suite`] holds the stories that every store passes, and [`player`] plays operations on a store.
//! - [`generate`] makes histories of operations: random ones that shrink well, and all the short ones; also of groups.
//! - [`fixtures`] and [`waiting`] are for tests of all crates.
//!
//! A history is run on the model and on a store, and the answers are compared:
//!
//! ```
//! use limiter_conformance::model::Model;
//! use limiter_conformance::replay::read;
//!
//! let mut model = Model::new();
//! let mut answers = Vec::new();
//! for line in [
//!     r#"{"at":60000,"op":"create","key":"k1","global":{"requests_per_minute":1}}"#,
//!     r#"{"at":60001,"op":"check","key":"k1","output":7}"#,
//!     r#"{"at":60002,"op":"check","key":"k1"}"#,
//! ] {
//!     answers.push(model.answer(&read(line)?).to_line());
//! }
//! assert_eq!(answers[0], r#"{"ok":true}"#);
//! assert_eq!(answers[1], r#"{"allowed":true,"remaining":{"global/minute/requests":0}}"#);
//! assert!(answers[2].contains(r#""retry_at":120000"#));
//! # Ok::<(), limiter_conformance::replay::Unreadable>(())
//! ```

mod around;
mod committed;
pub mod fixtures;
pub mod generate;
mod managed;
pub mod model;
pub mod player;
pub mod replay;
pub mod suite;
pub mod waiting;

pub use around::{Around, Called, Interpose};
pub use committed::{Committed, committed, line_of};
pub use managed::Managed;
