//! The cost of metrics and spans to a decision in memory: `scripts/bench figures` counts its instructions under each
//! set of features.
//!
//! It is not in `benches/`, where the service compiles its features into the limiter in any case.

use std::env;
use std::hint::black_box;
use std::process::ExitCode;

use futures_util::FutureExt;
use limiter::{
    AssetId, Charge, Credits, Decision, Handle, KeyConfig, KeyId, Limiter, Limits, NewKey,
    StoreError,
};

fn main() -> ExitCode {
    // `cargo bench` adds a flag of its own.
    let arguments: Vec<_> = env::args().skip(1).filter(|argument| argument != "--bench").collect();
    let arguments: Vec<_> = arguments.iter().map(String::as_str).collect();
    let [subject @ ("by_string" | "by_handle"), watched @ ("nobody" | "prometheus"), decisions] =
        arguments[..]
    else {
        eprintln!("usage: figures by_string|by_handle nobody|prometheus DECISIONS");
        return ExitCode::from(2);
    };
    let Ok(decisions) = decisions.parse() else {
        eprintln!("{decisions:?} is no number of decisions");
        return ExitCode::from(2);
    };
    if watched == "prometheus" {
        install_recorder();
    }
    let caller = Caller::new();
    // The first decision gets its handles from the recorder.
    caller.decide(subject == "by_handle", 1);
    counted_decisions(&caller, subject == "by_handle", decisions);
    ExitCode::SUCCESS
}

/// Makes the decisions whose instructions callgrind counts. It finds this function by its name.
#[inline(never)]
fn counted_decisions(caller: &Caller, by_handle: bool, decisions: u64) {
    caller.decide(by_handle, decisions);
}

/// A key with eight rules, a budget and an expiry that nothing reaches, as in `scripts/bench decision`.
struct Caller {
    limiter: Limiter,
    key: KeyId,
    asset: AssetId,
    handle: Handle,
    charge: Charge,
}

impl Caller {
    fn new() -> Self {
        let limiter = Limiter::in_memory();
        let admin = NewKey::admin(KeyConfig::named("admin").expect("a name"));
        let workspace = "team-a".parse().expect("an id");
        let admin = now(limiter.bootstrap(workspace, admin)).expect("it is the first").record.id;
        let limits = Limits::builder()
            .requests_per_minute(NEVER_REACHED)
            .requests_per_day(NEVER_REACHED)
            .tokens_per_minute(NEVER_REACHED)
            .tokens_per_day(NEVER_REACHED)
            .build()
            .expect("valid limits");
        let asset: AssetId = "gpt-5".parse().expect("an id");
        let config = KeyConfig::named("ci")
            .expect("a name")
            .with_global(limits.clone())
            .with_asset(asset.clone(), limits)
            .with_budget(Credits::from_millionths(NEVER_REACHED).expect("valid credits"))
            .with_expiry(limiter::Timestamp::from_unix_ms(EXPIRY_MS));
        let member = now(limiter.keys_as(&admin).create(NewKey::member(config)));
        let key = member.expect("its name is free").record.id;
        let handle = now(limiter.handle(&key, &asset)).expect("it is in memory");
        let handle = handle.expect("the key lives");
        let credits = Credits::from_millionths(4_200).expect("valid credits");
        let charge = Charge::request().with_tokens(1_200, 350).expect("valid tokens");
        Self { limiter, key, asset, handle, charge: charge.with_credits(credits) }
    }

    fn decide(&self, by_handle: bool, decisions: u64) {
        for _ in 0..decisions {
            let charge = black_box(&self.charge);
            if by_handle {
                check(&now(self.handle.check_and_consume(charge)));
            } else {
                check(&now(self.limiter.check_and_consume(&self.key, &self.asset, charge)));
            }
        }
    }
}

fn check(decision: &Result<Decision, StoreError>) {
    black_box(decision);
    assert!(decision.as_ref().is_ok_and(Decision::is_allowed));
}

/// Polls a call once: in memory it is ready at once.
fn now<F: Future>(call: F) -> F::Output {
    call.now_or_never().expect("it is ready")
}

#[cfg(feature = "metrics")]
fn install_recorder() {
    let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
    assert!(metrics::set_global_recorder(recorder).is_ok(), "there is no other");
}

#[cfg(not(feature = "metrics"))]
fn install_recorder() {}

/// In requests, tokens and millionths of a credit.
const NEVER_REACHED: u64 = 1 << 50;

/// In the year 2100.
const EXPIRY_MS: i64 = 4_102_444_800_000;
