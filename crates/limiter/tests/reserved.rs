//! Calls whose cost is known only afterwards: the guard, estimates, and answers that are counted while they stream.

mod cuts;
mod estimate;
mod events;
mod faults;
mod faulty_store;
mod guard;
mod leaving;
mod limits;
mod log;
mod price;
mod runtimes;
mod slots;
mod store_calls;
mod streams;
mod world;
