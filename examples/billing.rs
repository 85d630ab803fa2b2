//! Billing from usage events: each final charge is a row of a CSV file, whose sums equal the limiter's usage.
//!
//! `cargo run --example billing [FILE]`

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use limiter::events::{UsageEvent, UsageEvents};
use limiter::{
    AssetId, Charge, Credits, KeyConfig, KeyId, Limiter, Limits, ManualClock, NewKey, Price,
    RequestId, Reserved, ScopeId, Timestamp, TokenUsage, Unit, Usage,
};
use serde::{Deserialize, Serialize};

#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let file = std::env::args_os().nth(1).map_or_else(default_file, PathBuf::from);
    match bill(&file).await {
        Ok(bill) => {
            println!("{bill}\nThe events are in {}.", file.display());
            if bill.is_right() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
        }
        Err(error) => {
            eprintln!("billing: {error}");
            ExitCode::FAILURE
        }
    }
}

/// Makes some calls while their usage events are written to the file, and sums the file.
pub(crate) async fn bill(file: &Path) -> Result<Bill, Box<dyn Error>> {
    let limiter = Limiter::in_memory_on(&ManualClock::at(START));
    // Subscribe before the first call: a subscriber gets only later events.
    let writing = tokio::spawn(write_csv(limiter.usage_events(), File::create(file)?));
    let key = key(&limiter).await?;
    make_calls(&limiter, &key).await?;
    let usage = limiter.usage(&key).await?.ok_or("the key is gone")?;
    // The events end when the last clone of the limiter is dropped.
    drop(limiter);
    writing.await?.map_err(|error| error.to_string())?;
    Ok(Bill { billed: sum_csv(file)?, used: Sums::of(&usage)? })
}

/// One final charge, as a row of the file.
#[derive(Serialize, Deserialize)]
struct Row {
    at: String,
    key: KeyId,
    asset: Option<AssetId>,
    kind: String,
    requests: u64,
    input_tokens: u64,
    output_tokens: u64,
    /// A decimal number, such as `0.42`.
    credits: String,
    id: Option<RequestId>,
}

impl From<UsageEvent> for Row {
    fn from(event: UsageEvent) -> Self {
        Self {
            at: event.at.to_string(),
            key: event.key,
            asset: event.asset,
            kind: event.kind.to_string(),
            requests: event.charge.requests(),
            input_tokens: event.charge.input_tokens(),
            output_tokens: event.charge.output_tokens(),
            credits: event.charge.credits().to_string(),
            id: event.id,
        }
    }
}

/// Writes all events until the limiter is dropped. A missed event is an error, because it makes the bill wrong.
async fn write_csv(
    mut events: UsageEvents,
    file: File,
) -> Result<(), Box<dyn Error + Send + Sync>> {
    let mut csv = csv::Writer::from_writer(file);
    while let Some(event) = events.next().await {
        csv.serialize(Row::from(event?))?;
    }
    Ok(csv.flush()?)
}

/// Makes checks and reserved calls: settled below and above their estimate, settled again, and cancelled.
async fn make_calls(limiter: &Limiter, key: &KeyId) -> Result<(), Box<dyn Error>> {
    let (gpt5, haiku) = ("gpt-5".parse::<AssetId>()?, "haiku".parse::<AssetId>()?);
    let price = Price::per_million_tokens(Credits::whole(1_250)?, Credits::whole(10_000)?);
    let priced = |input, output| {
        let charge = Charge::request().with_tokens(input, output)?;
        Ok::<_, Box<dyn Error>>(charge.with_credits(price.of(&TokenUsage::new(input, output))))
    };

    let _ = limiter.check_and_consume(key, &gpt5, &priced(900, 100)?).await?;
    // A retry under the same id is not charged and not billed again.
    for _ in 0..2 {
        let _ = limiter.check_once(key, &haiku, &priced(40, 8)?, &"retry-1".parse()?).await?;
    }
    // The second answer is longer than its estimate. The third call never goes upstream.
    for (job, output) in [("job-1", Some(87)), ("job-2", Some(940)), ("job-3", None)] {
        let (estimate, job) = (priced(120, 500)?, job.parse()?);
        let reserved =
            limiter.reserve_as(key, &gpt5, &estimate, &job, Limiter::RESERVATION_TTL).await?;
        let Reserved::Allowed(call) = reserved else { continue };
        let mut call = call.with_price(price);
        match output {
            Some(output) => {
                let settled = call.settle_usage(&TokenUsage::new(120, output)).await?;
                // The result has the charge too, for billing without events.
                let charge = settled.charge.ok_or("the store is in memory")?;
                println!("{job} costs {} credits", charge.credits());
                // Settled again after a lost answer, it is billed once.
                assert!(!call.settle_usage(&TokenUsage::new(120, output)).await?.is_first());
            }
            None => drop(call.cancel().await?),
        }
    }
    Ok(())
}

/// The billed sums, and the limiter's usage.
#[derive(Debug)]
pub(crate) struct Bill {
    pub(crate) billed: Sums,
    pub(crate) used: Sums,
}

/// Sums of one key.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Sums {
    pub(crate) requests: u64,
    pub(crate) tokens: u64,
    pub(crate) credits: Credits,
}

impl Bill {
    pub(crate) fn is_right(&self) -> bool {
        self.billed == self.used
    }
}

impl Sums {
    fn of(usage: &Usage) -> Result<Self, Box<dyn Error>> {
        let day = usage.scope(&ScopeId::GLOBAL).ok_or("all calls are counted")?.account;
        let (requests, tokens) = (day.requests(), day.amount(Unit::Tokens));
        Ok(Self { requests, tokens, credits: usage.credits.spent })
    }
}

fn sum_csv(file: &Path) -> Result<Sums, Box<dyn Error>> {
    let mut sums = Sums::default();
    for row in csv::Reader::from_path(file)?.deserialize() {
        let row: Row = row?;
        sums.requests += row.requests;
        sums.tokens += row.input_tokens + row.output_tokens;
        sums.credits += row.credits.parse()?;
    }
    Ok(sums)
}

impl fmt::Display for Bill {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<8}{:>9}{:>9}{:>11}", "", "requests", "tokens", "credits")?;
        for (name, sums) in [("billed", &self.billed), ("used", &self.used)] {
            let Sums { requests, tokens, credits } = sums;
            writeln!(f, "{name:<8}{requests:>9}{tokens:>9}{credits:>11}")?;
        }
        f.write_str(if self.is_right() { "They are equal." } else { "They differ!" })
    }
}

/// Creates a key with a daily limit, so that all of its calls are counted.
async fn key(limiter: &Limiter) -> Result<KeyId, Box<dyn Error>> {
    let limits = Limits::builder().tokens_per_day(1_000_000).build()?;
    let ci = NewKey::member(KeyConfig::named("ci")?.with_global(limits)).with_id("ci".parse()?);
    Ok(limiter.workspace("acme")?.create(ci).await?.record.id)
}

fn default_file() -> PathBuf {
    std::env::temp_dir().join("limiter-usage.csv")
}

const START: Timestamp = Timestamp::from_unix_ms(1_760_011_200_000);
