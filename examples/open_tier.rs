//! Unregistered callers, by their address, beside customers of a plan that is raised at noon.
//!
//! `cargo run --example open_tier` calls as two addresses and a customer, and prints what each may do before noon and after.

use std::error::Error;
use std::time::Duration;

use limiter::{
    Charge, Decision, KeyConfig, Limiter, Limits, ManualClock, NewKey, Plan, PlanUpdate, Timestamp,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::at(BEFORE_NOON);
    let limiter = Limiter::in_memory_on(&clock);
    let keys = limiter.workspace("web")?;

    // Each address may make 2 requests a minute, and all together 5.
    let each = Limits::builder().requests_per_minute(2).build()?;
    let all = Limits::builder().requests_per_minute(5).build()?;
    keys.open("ip", each, all).await?;

    // Customers have a plan: one write changes the limits of all of them.
    let paid = |requests| -> Result<_, Box<dyn Error>> {
        let limits = Limits::builder().requests_per_minute(requests).build()?;
        Ok(PlanUpdate::new("paid".parse()?, Plan::from(limits)))
    };
    keys.save_plan(paid(4)?).await?;
    let customer = KeyConfig::named("customer")?.with_plan("paid".parse()?);
    let customer = NewKey::member(customer).with_id("customer".parse()?).without_access_key();
    keys.create(customer).await?;

    println!("-- 11:59 --");
    for caller in ["ip/203.0.113.7", "ip/2001:db8::1", "ip/198.51.100.9", "customer"] {
        call(&limiter, caller).await?;
    }

    // The calls of this minute meet the limits that it began with, those of the next one the new ones.
    println!("-- the paid plan is raised from 4 to 6 requests a minute --");
    keys.save_plan(paid(6)?).await?;
    call(&limiter, "customer").await?;
    println!("-- 12:00 --");
    clock.advance(Duration::from_secs(60));
    for caller in ["customer", "ip/203.0.113.7"] {
        call(&limiter, caller).await?;
    }
    Ok(())
}

/// Calls until a limit denies it, and prints the denial. An address does not see the figures of all.
async fn call(limiter: &Limiter, caller: &str) -> Result<(), Box<dyn Error>> {
    let key = caller.parse()?;
    for allowed in 0_u32.. {
        let decision = limiter.check_and_consume(&key, None, &Charge::request()).await?;
        if let Decision::Denied(denied) = decision {
            println!("{allowed} calls allowed, then {denied}");
            break;
        }
    }
    Ok(())
}

/// 2025-10-10T11:59:00Z.
const BEFORE_NOON: Timestamp = Timestamp::from_unix_ms(1_760_097_540_000);
