//! The first tour: a key with limits, from its creation to its deletion.
//!
//! `cargo run -p llm-limiter --example quickstart`, or on Redis:
//! `cargo run -p llm-limiter --example quickstart --features redis -- --redis redis://127.0.0.1:6379`

use std::error::Error;
use std::process::ExitCode;
use std::time::Duration;

use limiter::config::ScopeLimits;
use limiter::decision::LimitExceeded;
use limiter::{
    Allowed, AssetId, Charge, Credits, Decision, KeyConfig, Limiter, Limits, ManualClock, NewKey,
    ScopeId, Timestamp, Usage,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    run().await.unwrap_or_else(|error| {
        eprint!("quickstart: {error}");
        let mut cause = error.source();
        while let Some(error) = cause {
            eprint!(": {error}");
            cause = error.source();
        }
        eprintln!();
        ExitCode::FAILURE
    })
}

async fn run() -> Result<ExitCode, Box<dyn Error>> {
    // Time stands still until the tour moves it, so that no step waits.
    let clock = ManualClock::at(START);
    let arguments: Vec<_> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>().as_slice() {
        [] => tour(&Limiter::in_memory_on(&clock), &clock).await?,
        ["--redis", url] => tour_on_redis(url, &clock).await?,
        ["-h" | "--help"] => print!("{HELP}"),
        _ => {
            eprint!("{HELP}");
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// The same tour, with all limits and counts in Redis. Only the creation of the limiter differs.
#[cfg(feature = "redis")]
async fn tour_on_redis(url: &str, clock: &ManualClock) -> Result<(), Box<dyn Error>> {
    // A service leaves out the clock, and uses that of the server.
    let prefix = format!("quickstart-{:016x}", getrandom::u64()?);
    let store = limiter::redis::RedisStore::builder(url)
        .key_prefix(prefix)
        .clock(clock.clone())
        .connect()
        .await?;
    let toured = tour(&Limiter::from(store.clone()), clock).await;
    let deleted = store.delete_everything().await;
    toured?;
    Ok(deleted.map(drop)?)
}

#[cfg(not(feature = "redis"))]
async fn tour_on_redis(_: &str, _: &ManualClock) -> Result<(), Box<dyn Error>> {
    Err("--redis needs the feature `redis`: cargo run -p llm-limiter --example quickstart --features redis -- --redis URL".into())
}

async fn tour(limiter: &Limiter, clock: &ManualClock) -> Result<(), Box<dyn Error>> {
    heading("An admin bootstraps a workspace and creates a key");
    let admin = NewKey::admin(KeyConfig::named("ops")?);
    let admin = limiter.bootstrap("acme".parse()?, admin).await?.record.id;
    let keys = limiter.keys_as(&admin);

    let gpt5: AssetId = "gpt-5".parse()?;
    let limits = Limits::builder()
        .requests_per_minute(2)
        .output_tokens_per_minute(10)
        .output_tokens_per_day(30)
        .build()?;
    let config = KeyConfig::named("ci")?
        .with_global(Limits::builder().requests_per_minute(60).requests_per_day(1_000).build()?)
        .with_asset(gpt5.clone(), limits)
        .with_budget(Credits::whole(1)?)
        .with_expiry(clock.now().after(30 * DAY));
    let created = keys.create(NewKey::member(config).with_id("ci".parse()?)).await?;
    let access_key = created.access_key.ok_or("only a key without one has none")?;
    // It prints masked; `access_key.expose()` is the secret to hand over, and the store keeps no copy.
    println!("key {} has the access key {access_key}", created.record.config.name);
    println!("all calls: {}", created.record.config.global);
    println!("{gpt5}: {}", created.record.config.assets[&gpt5]);

    heading("It makes calls until one is denied");
    // A service finds the key by the secret that comes with a request.
    let key = limiter.authenticate(&access_key).await?.ok_or("the key was just created")?;
    // One request with 900 input and 4 output tokens, and its cost.
    let charge = Charge::request().with_tokens(900, 4)?.with_credits("0.0125".parse()?);
    let denied = loop {
        match limiter.check_and_consume(&key, &gpt5, &charge).await? {
            Decision::Allowed(allowed) => {
                println!("{} allowed", clock.now());
                print_alerts(&allowed);
            }
            Decision::Denied(denied) => break denied,
        }
    };
    println!("{} {denied}", clock.now());
    print_violations(denied.exceeded().ok_or("no other reason holds")?);

    heading("At retry_at the same call is allowed");
    clock.set(denied.retry_at().ok_or("the call fits into a new minute")?);
    let decision = limiter.check_and_consume(&key, &gpt5, &charge).await?;
    println!("{} allowed: {}", clock.now(), decision.is_allowed());

    heading("Changed limits wait for the next window");
    let record = keys.get(&key).await?;
    let raised = record.config.assets[&gpt5].to_builder();
    let raised = raised.requests_per_minute(5).output_tokens_per_day(60).build()?;
    let config = record.config.with_asset(gpt5.clone(), raised);
    // With the version, a change by another caller is never overwritten.
    let record = keys.update(&key, record.version, &config).await?.record;
    println!("configured: {}", record.config.assets[&gpt5]);
    print_pending(record.limits_of(&ScopeId::asset(gpt5.clone())).ok_or("it has limits")?);

    heading("What the key has used");
    print_usage(&keys.usage(&key).await?);

    heading("A deleted key makes no more calls");
    keys.delete(&key).await?;
    let decision = limiter.check_and_consume(&key, &gpt5, &charge).await?;
    let denied = decision.denied().ok_or("a deleted key is denied")?;
    println!("{} {denied}", clock.now());
    Ok(())
}

fn print_alerts(allowed: &Allowed) {
    for state in allowed.rules().filter(|state| state.percent() >= ALERT_PERCENT) {
        println!("  alert at {ALERT_PERCENT} %: {state} used ({})", state.rule);
    }
}

fn print_violations(exceeded: &LimitExceeded) {
    for violation in exceeded.violations() {
        let (rule, used, asked) = (violation.rule, violation.used, violation.asked);
        println!("  violated: {rule}, {used} used + {asked} asked > {}", violation.limit);
    }
    if let (Some(binding), Some(retry_at)) = (exceeded.binding(), exceeded.retry_at()) {
        println!("  binding:  {}, retry at {retry_at}", binding.rule);
    }
}

fn print_pending(limits: &ScopeLimits) {
    println!("in force: {}", limits.in_force);
    for pending in &limits.pending {
        println!("  per {} from {}: {}", pending.window, pending.effective_at, pending.limits);
    }
}

fn print_usage(usage: &Usage) {
    for scope in &usage.scopes {
        println!("{}, today: {}", scope.scope, scope.account);
        for rule in &scope.rules {
            let resets = rule.resets_at.map(|at| format!(", resets at {at}")).unwrap_or_default();
            println!("  {rule}{resets}");
        }
    }
    let credits = &usage.credits;
    let [budget, left] = [credits.budget, credits.remaining()].map(or_dash);
    println!("credits: {} spent, budget {budget}, remaining {left}", credits.spent);
}

fn or_dash(value: Option<impl ToString>) -> String {
    value.map_or_else(|| "-".to_owned(), |value| value.to_string())
}

fn heading(text: &str) {
    println!("\n# {text}");
}

const START: Timestamp = Timestamp::from_unix_ms(1_760_011_215_000); // 2025-10-09T12:00:15Z
const DAY: Duration = Duration::from_secs(86_400);
const ALERT_PERCENT: u64 = 80;
const HELP: &str = "\
The first tour: a key with limits, from its creation to its deletion.

Usage: quickstart [--redis URL]

  --redis URL   keep limits and counts in Redis, such as redis://127.0.0.1:6379, instead of in memory;
                everything is under a prefix of this run, and deleted at its end (with the feature `redis`)

The output is the same, but for the access key, which is random.
";
