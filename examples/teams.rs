//! Limits that keys share: a company with a budget for the month, its two teams, and keys with limits of their own. One team may have
//! two calls open at the same time.
//!
//! `cargo run --example teams` calls with each key until a level denies it, and prints who has used what.

use std::error::Error;
use std::time::Duration;

use limiter::{
    Charge, Credits, Decision, KeyConfig, KeyId, Keys, Limiter, Limits, ManualClock, NewKey,
    Reserved, Search, Timestamp, Totals,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let clock = ManualClock::at(START);
    let limiter = Limiter::in_memory_on(&clock);
    let keys = limiter.workspace("home")?;
    create(&keys).await?;

    // A call meets the limits of its key, of its team and of the company: whichever is stricter decides.
    let small = Charge::request().with_tokens(300, 100)?.with_credits("0.50".parse()?);
    let large = Charge::request().with_tokens(1_000, 500)?.with_credits(Credits::whole(1)?);
    call(&limiter, "acme/search/ci", &small).await?;
    call(&limiter, "acme/search/web", &small).await?;
    call(&limiter, "acme/support/bot", &large).await?;
    println!("-- the next day --");
    clock.advance(Duration::from_secs(86_400));
    call(&limiter, "acme/support/bot", &large).await?;

    println!("-- in parallel --");
    in_parallel(&limiter).await?;

    println!("-- used --");
    print_tree(&keys, "acme".parse()?).await
}

/// Creates the groups, from the outermost, and then the keys. The id of each says where it belongs.
async fn create(keys: &Keys<'_>) -> Result<(), Box<dyn Error>> {
    let limits = Limits::builder;
    let company = limits().credits_per_month(Credits::whole(10)?).build()?;
    let search = limits().requests_per_minute(5).build()?;
    let support = limits().output_tokens_per_day(2_000).parallel(2).build()?;
    for (id, name, limits) in [
        ("acme", "Acme", company),
        ("acme/search", "Search team", search),
        ("acme/support", "Support team", support),
    ] {
        let config = KeyConfig::named(name)?.with_global(limits);
        keys.create(NewKey::group(id.parse()?, config)).await?;
    }
    let own = limits().requests_per_minute(3).build()?;
    for (id, limits) in [
        ("acme/search/ci", own),
        ("acme/search/web", Limits::NONE),
        ("acme/support/bot", Limits::NONE),
    ] {
        let config = KeyConfig::named(id)?.with_global(limits);
        keys.create(NewKey::member(config).with_id(id.parse()?).without_access_key()).await?;
    }
    Ok(())
}

/// Calls with a key until a level denies it, and prints the denial.
async fn call(limiter: &Limiter, key: &str, charge: &Charge) -> Result<(), Box<dyn Error>> {
    let key = key.parse()?;
    for allowed in 0_u32.. {
        if let Decision::Denied(denied) = limiter.check_and_consume(&key, None, charge).await? {
            println!("after {allowed} calls of {denied}\n");
            break;
        }
    }
    Ok(())
}

/// Opens calls of a team until one finds no slot. When another ends, it does.
async fn in_parallel(limiter: &Limiter) -> Result<(), Box<dyn Error>> {
    let (bot, estimate) = ("acme/support/bot".parse()?, Charge::request());
    let mut open = Vec::new();
    let denied = loop {
        match limiter.reserve(&bot, None, &estimate).await? {
            Reserved::Allowed(call) => open.push(call),
            Reserved::Denied(denied) => break denied,
        }
    };
    println!("with {} calls open {denied}", open.len());
    for mut call in open.drain(..1) {
        call.settle(&Totals::unchanged()).await?;
    }
    if let Reserved::Allowed(call) = limiter.reserve(&bot, None, &estimate).await? {
        println!("after one has ended, another is open\n");
        open.push(call);
    }
    for mut call in open {
        call.cancel().await?;
    }
    Ok(())
}

/// Prints what a group and everything beneath it has used.
async fn print_tree(keys: &Keys<'_>, group: KeyId) -> Result<(), Box<dyn Error>> {
    let beneath = keys.search(&Search::all().beneath(group.clone())).await?;
    let mut ids: Vec<KeyId> = beneath.keys.into_iter().map(|record| record.id).collect();
    ids.push(group);
    ids.sort_by(|one, other| one.segments().cmp(other.segments()));
    for id in ids {
        let indent = "  ".repeat(id.depth() - 1);
        let segment = id.segments().next_back().unwrap_or_default();
        println!("{:<16}{}", format!("{indent}{segment}"), keys.usage(&id).await?);
    }
    Ok(())
}

const START: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
