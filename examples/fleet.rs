//! A fleet that decides out of leases: four processes on one Redis, one of which is killed.
//!
//! `cargo run --example fleet` starts a Redis of its own and takes twelve seconds. Second by second it prints how many calls were
//! decided in the memory of a process and how many by Redis, how often Redis was asked for anything, and the sum of what was
//! admitted, which never passes the limit.

use std::error::Error;
use std::io::{BufRead, BufReader, Write, stdout};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};
use std::{env, thread};

use limiter::lease::{Figures, LeasedStore};
use limiter::redis::RedisStore;
use limiter::{Charge, KeyConfig, KeyId, Limiter, Limits, NewKey};
use limiter_test_servers::RedisServer;
use tokio::time::interval;

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["process", url, key] => process(url, &key.parse()?).await,
        _ => fleet().await,
    }
}

async fn fleet() -> Result<(), Box<dyn Error>> {
    let server = RedisServer::run();
    let limiter = Limiter::redis(server.url()).await?;
    let limits = Limits::builder().requests_per_day(LIMIT).build()?;
    let key = NewKey::member(KeyConfig::named("ci")?.with_global(limits));
    let key = limiter.workspace("team-a")?.create(key).await?.record.id;
    println!(
        "The key may make {LIMIT} calls a day. {PROCESSES} processes make {A_SECOND} a second each.\n"
    );
    println!("second   in memory    by Redis      denied   asked of Redis     admitted so far");
    let mut processes = (0..PROCESSES)
        .map(|_| Process::start(&server.url(), &key))
        .collect::<Result<Vec<_>, _>>()?;
    let (began, mut admitted, mut told_before_the_kill) = (Instant::now(), 0, 0);
    for second in 1..=SECONDS {
        thread::sleep(Duration::from_secs(second).saturating_sub(began.elapsed()));
        let told: Vec<Told> = processes.iter().map(Process::told).collect();
        let sum = |of: fn(&Told) -> u64| told.iter().map(of).sum::<u64>();
        admitted += sum(|told| told.admitted);
        println!(
            "{second:>6} {:>11} {:>11} {:>11} {:>16} {:>12} of {LIMIT}",
            sum(|told| told.local),
            sum(|told| told.direct),
            sum(|told| told.denied),
            sum(|told| told.asked),
            admitted,
        );
        if second == DIES {
            println!("        -- kill -9 of one process --");
            processes[0].0.kill()?;
            told_before_the_kill = admitted;
        }
    }
    for process in processes.iter_mut().skip(1) {
        process.0.wait()?;
    }
    let told: Vec<Told> = processes.iter().map(Process::told).collect();
    admitted += told.iter().map(|told| told.admitted).sum::<u64>();
    let usage = limiter.usage(&key).await?.ok_or("the key is there")?;
    let counted = usage.scopes[0].account.requests();
    println!(
        "\nRedis has counted {counted} calls. The callers were told of {admitted} that were admitted. The others, {}, had the dead \
         process\nleased and not used, or admitted in its last tenth of a second.",
        counted - admitted
    );
    assert!(admitted <= LIMIT && told_before_the_kill < admitted);
    Ok(())
}

/// A process, and what it prints.
struct Process(Child, Receiver<Told>);

/// What has become of the calls of a process, since it told last.
#[derive(Clone, Copy, Default)]
struct Told {
    local: u64,
    direct: u64,
    denied: u64,
    asked: u64,
    admitted: u64,
}

impl Process {
    fn start(url: &str, key: &KeyId) -> Result<Self, Box<dyn Error>> {
        let mut process = Command::new(env::current_exe()?)
            .args(["process", url, key.as_str()])
            .stdout(Stdio::piped())
            .spawn()?;
        let output = process.stdout.take().ok_or("it is piped")?;
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            for line in BufReader::new(output).lines().map_while(Result::ok) {
                let numbers: Vec<u64> = line.split(' ').filter_map(|it| it.parse().ok()).collect();
                let [local, direct, denied, asked, admitted] = numbers[..] else { return };
                if tell.send(Told { local, direct, denied, asked, admitted }).is_err() {
                    return;
                }
            }
        });
        Ok(Self(process, told))
    }

    /// What it has told since this was asked last.
    fn told(&self) -> Told {
        self.1.try_iter().fold(Told::default(), |sum, told| Told {
            local: sum.local + told.local,
            direct: sum.direct + told.direct,
            denied: sum.denied + told.denied,
            asked: sum.asked + told.asked,
            admitted: sum.admitted + told.admitted,
        })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        let _ended = self.0.kill();
        let _status = self.0.wait();
    }
}

/// One of the processes: it calls, and tells ten times a second what has become of that.
async fn process(url: &str, key: &KeyId) -> Result<(), Box<dyn Error>> {
    let store = LeasedStore::new(RedisStore::connect(url).await?);
    let limiter = Limiter::from(store.clone());
    let (began, mut before, mut admitted) = (Instant::now(), Figures::default(), 0_u64);
    let mut pace = interval(Duration::from_millis(10));
    for beat in 1_u64.. {
        pace.tick().await;
        for _ in 0..A_SECOND / 100 {
            let decision = limiter.check_and_consume(key, None, &Charge::request()).await?;
            admitted += u64::from(decision.is_allowed());
        }
        let is_over = began.elapsed() >= Duration::from_secs(SECONDS);
        if is_over {
            // What it has leased and not used goes back.
            let unpaid = limiter.flush(Duration::from_secs(1)).await;
            assert!(unpaid.is_nothing(), "{unpaid}");
        }
        if is_over || beat.is_multiple_of(10) {
            let now = store.figures();
            let since = |of: fn(&Figures) -> u64| of(&now) - of(&before);
            writeln!(
                stdout(),
                "{} {} {} {} {admitted}",
                since(|it| it.local),
                since(|it| it.direct),
                since(|it| it.denied),
                since(|it| it.asked + it.handed_back + it.direct),
            )?;
            (before, admitted) = (now, 0);
        }
        if is_over {
            break;
        }
    }
    Ok(())
}

/// Three quarters of what is asked for in twelve seconds.
const LIMIT: u64 = 300_000;
const A_SECOND: u64 = 10_000;
const PROCESSES: usize = 4;
const DIES: u64 = 4;
const SECONDS: u64 = 12;
