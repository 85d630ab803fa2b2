//! A key's days as charts: requests, tokens and credits, by model.

use std::collections::BTreeMap;

use chrono::DateTime;
use limiter::{AssetId, Charge, DayHistory, Scope, TimeZone, Timestamp};
use maud::{Markup, PreEscaped, html};
use plotters::backend::SVGBackend;
use plotters::chart::ChartBuilder;
use plotters::drawing::{DrawingAreaErrorKind, IntoDrawingArea};
use plotters::element::Polygon;
use plotters::style::{Color, RGBColor};

use super::rules::of_scope;

/// The charges of a key on each day, by model.
struct Days {
    /// The first day, in days since 1970-01-01.
    first: i64,
    /// The models with the most requests, and all other calls at the end.
    series: Vec<Series>,
}

/// The days of a model, or of all other calls.
struct Series {
    name: String,
    days: Vec<Charge>,
}

/// A quantity that is drawn.
struct Quantity {
    name: &'static str,
    of: fn(&Charge) -> f64,
}

/// The charts, and the same numbers as a table.
pub(super) fn of(history: &[DayHistory], now: Timestamp, zone: &TimeZone) -> Markup {
    let days = Days::of(history, now, zone);
    if days.series.is_empty() {
        return html! { p { "No calls." } };
    }
    html! {
        ul class="legend" {
            @for (series, color) in days.series.iter().zip(COLORS) {
                li { svg viewBox="0 0 1 1" aria-hidden="true" { rect width="1" height="1" fill=(hex(color)) {} } " " (series.name) }
            }
        }
        @for quantity in QUANTITIES {
            figure {
                figcaption { (quantity.name) " per day" }
                div role="img" aria-label=(format!("{} per day, by model; the table below has the numbers", quantity.name)) {
                    @match draw(&days, quantity.of) {
                        Ok(svg) => (PreEscaped(svg)),
                        Err(_) => "The chart cannot be drawn.",
                    }
                }
            }
        }
        details {
            summary { "The numbers" }
            div class="scroll" tabindex="0" role="region" aria-label="The numbers" { (table(history, zone)) }
        }
    }
}

/// A row for each day and scope.
fn table(history: &[DayHistory], zone: &TimeZone) -> Markup {
    html! {
        table {
            thead { tr {
                th scope="col" { "Day" } th scope="col" { "Model" }
                @for name in ["Requests", "Input tokens", "Output tokens", "Credits"] { th scope="col" class="number" { (name) } }
            } }
            tbody {
                @for day in history.iter().rev() {
                    @for scope in day.scopes.iter().take(MOST_ROWS_OF_DAY) {
                        tr {
                            th scope="row" { (date(zone.date(day.start))) }
                            td { (of_scope(&scope.scope)) }
                            td class="number" { (scope.account.requests()) }
                            td class="number" { (scope.account.input_tokens()) }
                            td class="number" { (scope.account.output_tokens()) }
                            td class="number" { (scope.account.credits()) }
                        }
                    }
                }
            }
        }
    }
}

impl Days {
    fn of(history: &[DayHistory], now: Timestamp, zone: &TimeZone) -> Self {
        let first = zone.date(now) - DAYS as i64 + 1;
        let none = || vec![Charge::NOTHING; DAYS];
        let (mut all, mut models) = (none(), BTreeMap::<AssetId, Vec<Charge>>::new());
        for day in history {
            let place = usize::try_from(zone.date(day.start) - first).ok();
            let Some(place) = place.filter(|place| *place < DAYS) else { continue };
            for scope in &day.scopes {
                match (&scope.scope.asset, scope.scope.scope) {
                    (Some(model), _) => {
                        models.entry(model.clone()).or_insert_with(none)[place] = scope.account;
                    }
                    (None, Scope::Global) => all[place] = scope.account,
                    // They are among all calls, and belong to no model that is drawn.
                    (None, _) => {}
                }
            }
        }
        let requests = |days: &[Charge]| days.iter().map(Charge::requests).sum::<u64>();
        let mut models: Vec<_> = models.into_iter().collect();
        models.sort_by_key(|(_, days)| std::cmp::Reverse(requests(days)));
        models.truncate(COLORS.len() - 1);
        let mut rest = all;
        for (place, rest) in rest.iter_mut().enumerate() {
            *rest = models.iter().fold(*rest, |rest, (_, days)| rest.beyond(&days[place]));
        }
        let name = if models.is_empty() { "all calls" } else { "all other calls" };
        let of_model = |(model, days): (AssetId, _)| Series { name: model.to_string(), days };
        let mut series: Vec<_> = models.into_iter().map(of_model).collect();
        if rest.iter().any(|day| *day != Charge::NOTHING) {
            series.push(Series { name: name.to_owned(), days: rest });
        }
        Self { first, series }
    }
}

/// Draws a column for each day, in which the models lie one upon the other: each is one polygon, so that the page stays small.
fn draw(
    days: &Days,
    of: fn(&Charge) -> f64,
) -> Result<String, DrawingAreaErrorKind<std::io::Error>> {
    let mut bottoms = vec![0.0; DAYS];
    let mut polygons = Vec::new();
    for series in &days.series {
        let tops: Vec<f64> =
            bottoms.iter().zip(&series.days).map(|(bottom, day)| bottom + of(day)).collect();
        let corners = |heights: &[f64]| -> Vec<(f64, f64)> {
            let columns = heights.iter().enumerate();
            columns
                .flat_map(|(day, height)| [(day as f64, *height), (day as f64 + 1.0, *height)])
                .collect()
        };
        let mut outline = corners(&tops);
        outline.extend(corners(&bottoms).into_iter().rev());
        polygons.push(outline);
        bottoms = tops;
    }
    let highest = bottoms.into_iter().fold(1.0, f64::max);

    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, SIZE).into_drawing_area();
        let mut chart = ChartBuilder::on(&area)
            .margin(8)
            .x_label_area_size(24)
            .y_label_area_size(64)
            .build_cartesian_2d(0.0..DAYS as f64, 0.0..highest * 1.05)?;
        chart
            .configure_mesh()
            .disable_x_mesh()
            .max_light_lines(0)
            .x_labels(6)
            .x_label_formatter(&|day| date(days.first + *day as i64))
            .y_labels(4)
            .y_label_formatter(&|amount| shortened(*amount))
            .draw()?;
        for (outline, color) in polygons.into_iter().zip(COLORS) {
            chart.draw_series([Polygon::new(outline, color.filled())])?;
        }
        area.present()?;
    }
    Ok(svg)
}

/// A date, from days since 1970-01-01.
fn date(days: i64) -> String {
    let date = DateTime::from_timestamp(days.saturating_mul(86_400), 0);
    date.map_or_else(String::new, |date| date.format("%Y-%m-%d").to_string())
}

fn shortened(amount: f64) -> String {
    let units = [(1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k")];
    match units.into_iter().find(|(unit, _)| amount >= *unit) {
        Some((unit, letter)) => format!("{:.1}{letter}", amount / unit),
        None if amount.fract() == 0.0 => format!("{amount}"),
        None => format!("{amount:.1}"),
    }
}

fn hex(color: RGBColor) -> String {
    format!("#{:02x}{:02x}{:02x}", color.0, color.1, color.2)
}

const QUANTITIES: [Quantity; 3] = [
    Quantity { name: "Requests", of: |charge| charge.requests() as f64 },
    Quantity {
        name: "Tokens",
        of: |charge| (charge.input_tokens() + charge.output_tokens()) as f64,
    },
    Quantity { name: "Credits", of: |charge| charge.credits().millionths() as f64 / 1e6 },
];
const DAYS: usize = DayHistory::DAYS as usize;
const SIZE: (u32, u32) = (760, 200);
/// Far apart for everybody, also for who sees no red or no green, in the light and in the dark (Okabe and Ito).
const COLORS: [RGBColor; 5] = [
    RGBColor(0, 114, 178),
    RGBColor(230, 159, 0),
    RGBColor(0, 158, 115),
    RGBColor(204, 121, 167),
    RGBColor(140, 140, 140),
];
/// So that the table of a key with many models stays small.
const MOST_ROWS_OF_DAY: usize = 6;
