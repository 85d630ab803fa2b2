//! The Redis store passes the suite that every store passes, on one server.

mod common;

use common::Redis;

limiter_conformance::conformance_tests!(Redis);
