//! The effect of each failure policy when Redis dies: loaded, killed, brought back.
//!
//! `cargo run --example outage` starts a Redis of its own and takes twelve seconds. Second by second it prints how many calls the
//! store allowed, how many the policy allowed or denied without it (flagged as degraded), and how many were errors.

use std::error::Error;
use std::fmt;
use std::num::NonZeroU32;
use std::time::{Duration, Instant};

use limiter::policy::{FailurePolicy, GuardedStoreBuilder, Share};
use limiter::redis::RedisStore;
use limiter::{Charge, Decision, KeyConfig, KeyId, Limiter, Limits, NewKey, StoreError};
use limiter_test_servers::RedisServer;
use tokio::time::{interval, sleep};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    // Nothing that it acknowledged is lost by `kill -9`: with `appendfsync everysec`, a slow disk may lose two seconds.
    let server = RedisServer::durable();
    // Four processes, say, and this is one of them.
    let share = Share::one_in(NonZeroU32::new(4).ok_or("four is not zero")?);
    let mut services = [
        Service::new("FailClosed", FailurePolicy::FailClosed, server.url()).await?,
        Service::new("FailOpen", FailurePolicy::FailOpen, server.url()).await?,
        Service::new("LocalShare", FailurePolicy::LocalShare { share }, server.url()).await?,
    ];
    println!(
        "Each key may make {LIMIT} calls a day, and each service makes about {A_SECOND} a second."
    );
    println!("The share of LocalShare is {share}: {} calls.\n", LIMIT / 4);
    let names = services.each_ref().map(|service| format!("{:<44}", service.name));
    println!("second  {}", names.concat().trim_end());

    for second in 1..=SECONDS {
        match second {
            DIES => {
                println!("        -- kill -9 --");
                server.kill();
            }
            COMES_BACK => {
                println!("        -- Redis is started again --");
                server.start();
            }
            _ => {}
        }
        let [closed, open, local] = &mut services;
        let (closed, open, local) =
            tokio::join!(closed.one_second(), open.one_second(), local.one_second());
        let columns = [closed, open, local].map(|tally| format!("{:<44}", tally.to_string()));
        println!("{second:>6}  {}", columns.concat().trim_end());
    }

    // A moment for the last debts to be paid.
    sleep(2 * PROBE_EVERY).await;
    println!("\nIn the end Redis has counted:");
    for service in &services {
        let usage = service.limiter.usage(&service.key).await?.ok_or("the key is there")?;
        let counted = usage.scopes[0].account.requests();
        let Tally { allowed, degraded, .. } = service.total;
        println!(
            "{:<10} {counted:>4} calls, of {allowed} that it allowed and {degraded} that were allowed without it",
            service.name
        );
    }
    Ok(())
}

/// A service with a limiter of its own, and one caller.
struct Service {
    name: &'static str,
    limiter: Limiter,
    key: KeyId,
    total: Tally,
}

/// The outcomes of calls.
#[derive(Clone, Copy, Default)]
struct Tally {
    allowed: u64,
    denied: u64,
    degraded: u64,
    degraded_denied: u64,
    errors: u64,
}

impl Service {
    async fn new(
        name: &'static str,
        policy: FailurePolicy,
        url: String,
    ) -> Result<Self, Box<dyn Error>> {
        let store = GuardedStoreBuilder::new(policy)
            .probe_every(PROBE_EVERY)
            .connect(move || RedisStore::connect(url.clone()))
            .await;
        let limiter = Limiter::from(store);
        let limits = Limits::builder().requests_per_day(LIMIT).build()?;
        let key = NewKey::member(KeyConfig::named("ci")?.with_global(limits));
        let key = limiter.workspace(name)?.create(key).await?.record.id;
        Ok(Self { name, limiter, key, total: Tally::default() })
    }

    async fn one_second(&mut self) -> Tally {
        let (mut tally, began) = (Tally::default(), Instant::now());
        let mut pace = interval(Duration::from_secs(1) / A_SECOND);
        while began.elapsed() < Duration::from_secs(1) {
            pace.tick().await;
            let call = Charge::request();
            let answer = self.limiter.check_and_consume(&self.key, None, &call).await;
            tally.add(&answer);
            self.total.add(&answer);
        }
        tally
    }
}

impl Tally {
    fn add(&mut self, answer: &Result<Decision, StoreError>) {
        let which = match answer {
            Ok(decision) if decision.is_degraded() && decision.is_allowed() => &mut self.degraded,
            Ok(decision) if decision.is_degraded() => &mut self.degraded_denied,
            Ok(decision) if decision.is_allowed() => &mut self.allowed,
            Ok(_) => &mut self.denied,
            Err(_) => &mut self.errors,
        };
        *which += 1;
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = [
            (self.allowed, "allowed"),
            (self.denied, "denied"),
            (self.degraded, "degraded"),
            (self.degraded_denied, "degraded, denied"),
            (self.errors, "errors"),
        ];
        let shown = counts.iter().filter(|(count, _)| *count > 0);
        f.write_str(
            &shown.map(|(count, what)| format!("{count} {what}")).collect::<Vec<_>>().join(", "),
        )
    }
}

/// A quarter of it is used up in the middle of the outage, and the rest of it before the end.
const LIMIT: u64 = 400;
const A_SECOND: u32 = 50;
const DIES: u32 = 4;
const COMES_BACK: u32 = 8;
const SECONDS: u32 = 12;
/// Twice as often as by default: the story is short.
const PROBE_EVERY: Duration = Duration::from_millis(500);
