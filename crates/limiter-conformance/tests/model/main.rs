//! What the model answers, computed by hand.

mod clock;
mod decisions;
mod limits;
mod thresholds;
mod world;
