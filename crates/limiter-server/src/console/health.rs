//! Whether the server and its store are well.

use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::State;
use maud::{Markup, html};

use super::page::{Page, sentence};
use super::session::Operator;
use crate::app::App;
use crate::refusal::Refusal;

pub(super) async fn show(State(app): State<Arc<App>>, operator: Operator) -> Result<Page, Refusal> {
    // Members and strangers see nothing of it.
    operator.keys(&app).plans().await?;
    let started = Instant::now();
    let readiness = app.readiness().await;
    let took = started.elapsed();
    let main = html! {
        h1 { "Health" }
        @match &readiness {
            Ok(()) => p class="done" { "The server is ready." },
            Err(reason) => p role="alert" class="problem" { "The server is not ready. " (sentence(reason)) },
        }
        h2 { "Store" }
        dl {
            dt { "Store" } dd { @if app.backing.redis.is_some() { "Redis, shared by all servers with the same URL and prefix" } @else { "In memory, in this process" } }
            @if app.backing.redis.is_some() {
                dt { "Round trip now" } dd { (milliseconds(took)) }
                dt { "While Redis is away" } dd { "Calls get 503 with Retry-After; none is let through uncounted, and there is no breaker" }
            }
            dt { "State file" }
            dd {
                @match &app.backing.state {
                    None if app.backing.redis.is_some() => "None: Redis keeps the counts",
                    None => "None: a restart forgets all keys",
                    Some((file, _)) => { code { (file.path().display()) } " "
                        @match file.trouble() { None => "is saved every ten seconds", Some(trouble) => span class="badge full" { (trouble) } } }
                }
            }
        }
        h2 { "Leases" }
        (leases(&app))
        h2 { "Server" }
        dl {
            dt { "Version" } dd { (env!("CARGO_PKG_VERSION")) }
            dt { "Requests under way" } dd { (app.admission.under_way()) " of at most " (app.bounds.max_requests) }
            dt { "History" } dd { (app.bounds.history_days) " days" }
        }
        p class="faint" { "Latencies and counts over time are at /metrics, for Prometheus." }
    };
    Ok(Page::new(&operator, "Health", main))
}

fn leases(app: &App) -> Markup {
    let Some(leases) = &app.backing.leases else {
        return html! { p { "Off: each call is decided by the store." } };
    };
    let figures = leases.figures();
    html! {
        dl {
            dt { "Out of leases" } dd { (figures.local) " calls allowed, " (figures.denied) " denied" }
            dt { "By the store" } dd { (figures.direct) " checks" }
            dt { "Leased" } dd { (figures.leased) " requests in " (figures.asked) " grants" }
            dt { "Handed back" } dd { (figures.returned) " requests; " (figures.stranded) " could not be, and stay charged" }
        }
    }
}

fn milliseconds(took: Duration) -> String {
    format!("{:.1} ms", took.as_secs_f64() * 1e3)
}
