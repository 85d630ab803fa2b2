//! Cold fields: what is configured, read only when a process does not have it at hand.
//!
//! | part of a scope | bytes |
//! |---|---|
//! | whether it is listed, 1; whether it has a parallel limit, 2 | 1 |
//! | the parallel limit, if it has one | 7 |
//! | the number of limits in force; of each its window and unit, and the amount | 1 + n × (1 + 7) |
//! | the number of windows with pending limits; of each the window, and its limits as above | 1 + … |
//! | the number of changes that took effect at once | 4 |
//! | the number of limits that count since such a change; of each its window and unit, and the change | 1 + n × (1 + 4) |
//!
//! The field `g` begins with format 1, flags 2, expiry 7, thresholds 4, generations 4, the name of the time zone 1 + n, 7 of
//! the parallel limit of other assets, if they have one (with it alone they have no field of their own), and of a key with a plan
//! the workspace and the name of the plan, each 1 + n, when it was created, 7, and the version that the key has taken, 7; and of
//! an open group the name of the plan of unregistered keys, 1 + n.

use limiter_core::{
    AssetId, KeyKind, KeySettings, KeyState, Limit, Limits, MAX_COUNT, Pending, Record, ScopeId,
    ScopeState, Since, TakenPlan, Thresholds, TimeZone, Timestamp, Unit, Window,
};

use super::bytes::{OUT_OF_BOUNDS, Reader, push_int, timestamp};
use super::{Known, Layout, Misread};

/// The field `g` of a key.
pub(crate) fn write_global(state: &KeyState) -> Vec<u8> {
    let settings = state.settings();
    let flags = [
        settings.kind == KeyKind::Admin,
        settings.shadow,
        settings.denies_other,
        settings.own_thresholds,
        settings.kind == KeyKind::Group,
        state.parallel_limit(&ScopeId::OTHER).is_some(),
        settings.plan.is_some(),
        settings.opens.is_some(),
        !settings.registered,
    ];
    let flags = (0..).zip(flags).fold(0, |all, (bit, is_set)| all | u16::from(is_set) << bit);
    let mut bytes = vec![FORMAT];
    bytes.extend(flags.to_le_bytes());
    push_int::<7>(&mut bytes, settings.expires_at.map_or(NEVER, Timestamp::unix_ms));
    bytes.extend(packed(state.thresholds()));
    bytes.extend(settings.generations.to_le_bytes());
    let zone = settings.time_zone.name().as_bytes();
    bytes.push(zone.len() as u8);
    bytes.extend(zone);
    if let Some(limit) = state.parallel_limit(&ScopeId::OTHER) {
        push_int::<7>(&mut bytes, limit.cast_signed());
    }
    if let Some(TakenPlan { workspace, name, created_at, version }) = &settings.plan {
        write_text(&mut bytes, workspace.as_str());
        write_text(&mut bytes, name.as_str());
        push_int::<7>(&mut bytes, created_at.unix_ms());
        push_int::<7>(&mut bytes, version.cast_signed());
    }
    if let Some(name) = &settings.opens {
        write_text(&mut bytes, name.as_str());
    }
    write_scope(&mut bytes, state.global(), true, state.parallel_limit(&ScopeId::GLOBAL));
    bytes
}

fn write_text(bytes: &mut Vec<u8>, text: &str) {
    bytes.push(text.len() as u8);
    bytes.extend(text.as_bytes());
}

/// The field of an asset, or of other assets, whose parallel limit stands elsewhere.
pub(crate) fn write_asset(scope: &ScopeState, listed: bool, parallel: Option<u64>) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(64);
    write_scope(&mut bytes, scope, listed, parallel);
    bytes
}

fn write_scope(bytes: &mut Vec<u8>, scope: &ScopeState, listed: bool, parallel: Option<u64>) {
    bytes.push(u8::from(listed) | u8::from(parallel.is_some()) << 1);
    if let Some(limit) = parallel {
        push_int::<7>(bytes, limit.cast_signed());
    }
    write_limits(bytes, &scope.record().limits());
    let pending = scope.all_pending();
    bytes.push(pending.len() as u8);
    for (window, limits) in pending {
        bytes.push(*window as u8);
        write_limits(bytes, limits);
    }
    bytes.extend(scope.changes().to_le_bytes());
    let since = scope.since();
    bytes.push(since.len() as u8);
    for (window, unit, change) in since {
        bytes.push(code(*window, *unit));
        bytes.extend(change.to_le_bytes());
    }
}

fn write_limits(bytes: &mut Vec<u8>, limits: &Limits) {
    bytes.push(limits.iter().count() as u8);
    for limit in limits.iter() {
        bytes.push(code(limit.window, limit.unit));
        push_int::<7>(bytes, limit.amount.cast_signed());
    }
}

/// A key from its global record and the cold field `g`, from those of assets, and from those of other assets.
pub(crate) fn read_state<'a>(
    hot: &[u8],
    cold: &[u8],
    assets: impl IntoIterator<Item = (AssetId, &'a [u8], &'a [u8])>,
    other: Option<(&[u8], &[u8])>,
) -> Result<Known, Misread> {
    let mut reader = Reader::new(cold);
    match reader.byte()? {
        FORMAT => {}
        0 => return Err(Misread::Corrupt("a key of no format")),
        _ => return Err(Misread::Newer),
    }
    let flags = u16::from_le_bytes(reader.array()?);
    if flags >= 1 << 9 {
        return Err(Misread::Corrupt("a setting that does not exist"));
    }
    let has = |bit: u16| flags & (1 << bit) != 0;
    let expires_at = match reader.int::<7>()? {
        NEVER => None,
        unix_ms => Some(timestamp(unix_ms)?),
    };
    let percents: [u8; Thresholds::MOST] = reader.array()?;
    let given = percents.into_iter().take_while(|percent| *percent > 0);
    let thresholds = Thresholds::new(given).map_err(|_| NO_THRESHOLDS)?;
    if packed(thresholds) != percents {
        return Err(NO_THRESHOLDS);
    }
    let generations = u32::from_le_bytes(reader.array()?);
    let length = reader.byte()?;
    let zone = str::from_utf8(reader.slice(length.into())?).map_err(|_| NO_ZONE)?;
    let zone: TimeZone = zone.parse().map_err(|_| NO_ZONE)?;
    let mut parallel = Vec::new();
    if has(5) {
        parallel.push((ScopeId::OTHER, reader.count()?));
    }
    let plan = if has(6) { Some(read_taken(&mut reader)?) } else { None };
    let opens =
        if has(7) { Some(read_text(&mut reader)?.parse().map_err(|_| NO_PLAN)?) } else { None };
    let limits = ScopeLimits::read(&mut reader)?;
    reader.end()?;
    parallel.extend(limits.parallel.map(|limit| (ScopeId::GLOBAL, limit)));
    let (stamp, global) = limits.scope(hot, true, thresholds, &zone)?;
    let of_scope = |hot: &[u8], cold: &[u8]| {
        let mut reader = Reader::new(cold);
        let limits = ScopeLimits::read(&mut reader)?;
        reader.end()?;
        let (_, scope) = limits.scope(hot, false, thresholds, &zone)?;
        Ok::<_, Misread>((limits, scope))
    };
    let mut counted = Vec::new();
    for (id, hot, cold) in assets {
        let (limits, scope) = of_scope(hot, cold)?;
        parallel.extend(limits.parallel.map(|limit| (ScopeId::asset(id.clone()), limit)));
        counted.push((id, limits.listed, scope));
    }
    let other = other.map(|(hot, cold)| of_scope(hot, cold).map(|(_, scope)| scope)).transpose()?;
    let settings = KeySettings {
        kind: match (has(0), has(4)) {
            (false, false) => KeyKind::Member,
            (true, false) => KeyKind::Admin,
            (false, true) => KeyKind::Group,
            (true, true) => return Err(Misread::Corrupt("a key of two kinds")),
        },
        expires_at,
        shadow: has(1),
        denies_other: has(2),
        own_thresholds: has(3),
        generations,
        time_zone: zone.clone(),
        plan,
        opens,
        registered: !has(8),
    };
    let state = KeyState::from_parts(settings, global, counted, other)
        .map_err(|_| Misread::Corrupt("more assets than a key may have"))?;
    Ok(Known::stored(stamp, state.with_parallel_limits(parallel)))
}

fn read_text<'a>(reader: &mut Reader<'a>) -> Result<&'a str, Misread> {
    let length = reader.byte()?;
    str::from_utf8(reader.slice(length.into())?).map_err(|_| NO_PLAN)
}

fn read_taken(reader: &mut Reader<'_>) -> Result<TakenPlan, Misread> {
    let (workspace, name) = (read_text(reader)?, read_text(reader)?);
    Ok(TakenPlan {
        workspace: workspace.parse().map_err(|_| NO_PLAN)?,
        name: name.parse().map_err(|_| NO_PLAN)?,
        created_at: timestamp(reader.int::<7>()?)?,
        version: reader.count()?,
    })
}

/// The cold part of a scope.
struct ScopeLimits {
    listed: bool,
    parallel: Option<u64>,
    in_force: Limits,
    pending: Pending,
    changes: u32,
    since: Since,
}

impl ScopeLimits {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Misread> {
        let flags = reader.byte()?;
        if flags >= 1 << 2 {
            return Err(Misread::Corrupt("an asset that is neither listed nor not"));
        }
        let (listed, is_parallel) = (flags & 1 != 0, flags & 2 != 0);
        let parallel = if is_parallel { Some(reader.count()?) } else { None };
        let in_force = read_limits(reader, None)?;
        let mut pending = Pending::new();
        for _ in 0..reader.byte()? {
            let window = window_of(reader.byte()?)?;
            if !window.ends() || pending.last().is_some_and(|(last, _)| *last >= window) {
                return Err(OUT_OF_BOUNDS);
            }
            pending.push((window, read_limits(reader, Some(window))?));
        }
        let changes = u32::from_le_bytes(reader.array()?);
        let mut since = Since::new();
        for _ in 0..reader.byte()? {
            let (window, unit) = limit_of(reader.byte()?)?;
            since.push((window, unit, u32::from_le_bytes(reader.array()?)));
        }
        Ok(Self { listed, parallel, in_force, pending, changes, since })
    }

    fn scope(
        &self,
        hot: &[u8],
        is_global: bool,
        thresholds: Thresholds,
        zone: &TimeZone,
    ) -> Result<(super::Stamp, ScopeState), Misread> {
        let windows = self.pending.iter().map(|(window, _)| *window);
        let full = Record::of_limits(is_global, &self.in_force, windows, thresholds);
        let (stamp, record) = Layout::of(is_global, &full).read(hot, &full, zone)?;
        let (pending, since) = (self.pending.clone(), self.since.clone());
        Ok((stamp, ScopeState::from_parts(record, pending, self.changes, since)))
    }
}

/// Reads limits, of one window or of all. In force may be more than a configuration can have, while each of its windows waits
/// to replace those of the one before.
fn read_limits(reader: &mut Reader<'_>, of: Option<Window>) -> Result<Limits, Misread> {
    let (count, mut limits) = (reader.byte()?, Vec::<Limit>::new());
    for _ in 0..count {
        let (window, unit) = limit_of(reader.byte()?)?;
        let is_out_of_order =
            limits.last().is_some_and(|last| (last.window, last.unit) >= (window, unit));
        let amount = reader.count()?;
        if of.is_some_and(|of| of != window) || is_out_of_order || amount > MAX_COUNT {
            return Err(OUT_OF_BOUNDS);
        }
        limits.push(Limit { window, unit, amount });
    }
    Ok(limits.into_iter().collect())
}

/// A window and a unit, as a byte.
const fn code(window: Window, unit: Unit) -> u8 {
    window as u8 * 8 + unit as u8
}

fn limit_of(code: u8) -> Result<(Window, Unit), Misread> {
    let unit = Unit::ALL.get(usize::from(code % 8)).ok_or(OUT_OF_BOUNDS)?;
    Ok((window_of(code / 8)?, *unit))
}

fn window_of(number: u8) -> Result<Window, Misread> {
    Window::ALL.get(usize::from(number)).copied().ok_or(OUT_OF_BOUNDS)
}

/// In percent, rising; 0 for those that are not there.
fn packed(thresholds: Thresholds) -> [u8; Thresholds::MOST] {
    let mut percents = [0; Thresholds::MOST];
    for (place, percent) in percents.iter_mut().zip(thresholds.percents()) {
        *place = percent;
    }
    percents
}

const NO_PLAN: Misread = Misread::Corrupt("a plan that cannot be");
const NO_THRESHOLDS: Misread = Misread::Corrupt("thresholds that do not exist");
const NO_ZONE: Misread = Misread::Corrupt(
    "a time zone that this process does not know: build it with the feature time-zones",
);
/// The only format so far.
const FORMAT: u8 = 1;
/// The expiry of a key that never expires: above every [`Timestamp`].
const NEVER: i64 = 1 << 54;
