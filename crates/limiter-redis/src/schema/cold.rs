//! Cold fields: what is configured, read only when a process does not have it at hand.
//!
//! A scope is a byte of types (0 if it counts no windows, else 1 plus the token type of the minute plus three times that of the
//! day), four limits of seven bytes (requests and tokens of the minute and of the day), and what is pending: a byte (for each
//! window 0 or 1 plus the token type, the day's times four), and two limits for each window with a change.
//! The field `g` begins with format 1, kind 1, expiry 7, shadow 1, thresholds 4, generations 4,
//! budget 7.

use limiter_core::{
    AssetId, CREDITS, KeyKind, KeyState, Record, ScopeState, Thresholds, Timestamp, TokenType,
    Window, WindowLimits,
};

use super::bytes::{OUT_OF_BOUNDS, Reader, push_int, push_limit, timestamp};
use super::{Known, Layout, Misread};

/// The field `g` of a key.
pub(crate) fn write_global(state: &KeyState) -> Vec<u8> {
    let mut bytes = vec![FORMAT, u8::from(state.kind() == KeyKind::Admin)];
    push_int::<7>(&mut bytes, state.expires_at().map_or(NEVER, Timestamp::unix_ms));
    bytes.push(u8::from(state.is_shadow()));
    bytes.extend(packed(state.thresholds()));
    bytes.extend(state.generations().to_le_bytes());
    let global = state.global_scope();
    push_limit(&mut bytes, global.record().limits()[CREDITS]);
    write_scope(&mut bytes, global);
    bytes
}

/// The field of an asset.
pub(crate) fn write_asset(scope: &ScopeState) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(30);
    write_scope(&mut bytes, scope);
    bytes
}

fn write_scope(bytes: &mut Vec<u8>, scope: &ScopeState) {
    let record = scope.record();
    if !record.has_windows() {
        return bytes.push(0);
    }
    let [minute, day] = Window::ALL.map(|window| scope.counts(window).limits());
    bytes.push(1 + code(minute) + 3 * code(day));
    for limits in [minute, day] {
        push_limit(bytes, limits.requests());
        push_limit(bytes, limits.tokens());
    }
    let pending = Window::ALL.map(|window| scope.pending(window));
    let [minute, day] = pending.map(|limits| limits.map_or(0, |limits| 1 + code(limits)));
    bytes.push(minute + 4 * day);
    for limits in pending.into_iter().flatten() {
        push_limit(bytes, limits.requests());
        push_limit(bytes, limits.tokens());
    }
}

/// A key from its global record and the cold field `g`, and from those of assets.
pub(crate) fn read_state<'a>(
    hot: &[u8],
    cold: &[u8],
    assets: impl IntoIterator<Item = (AssetId, &'a [u8], &'a [u8])>,
) -> Result<Known, Misread> {
    let mut reader = Reader::new(cold);
    match reader.byte()? {
        FORMAT => {}
        0 => return Err(Misread::Corrupt("a key of no format")),
        _ => return Err(Misread::Newer),
    }
    let is_admin = reader.flag("a key of no kind")?;
    let kind = if is_admin { KeyKind::Admin } else { KeyKind::Member };
    let expires_at = match reader.int::<7>()? {
        NEVER => None,
        unix_ms => Some(timestamp(unix_ms)?),
    };
    let shadow = reader.flag("a mode that does not exist")?;
    let percents: [u8; Thresholds::MOST] = reader.array()?;
    let given = percents.into_iter().take_while(|percent| *percent > 0);
    let thresholds = Thresholds::new(given).map_err(|_| NO_THRESHOLDS)?;
    if packed(thresholds) != percents {
        return Err(NO_THRESHOLDS);
    }
    let generations = u32::from_le_bytes(reader.array()?);
    let budget = reader.limit()?;
    let limits = Limits::read(&mut reader)?;
    reader.end()?;
    let (stamp, global) = limits.scope(hot, thresholds, Some(budget))?;
    let assets = assets.into_iter().map(|(id, hot, cold)| {
        let mut reader = Reader::new(cold);
        let limits = Limits::read(&mut reader)?;
        reader.end()?;
        if limits.windows.is_none() {
            return Err(Misread::Corrupt("an asset without limits is counted"));
        }
        Ok((id, limits.scope(hot, thresholds, None)?.1))
    });
    let assets: Vec<_> = assets.collect::<Result<_, _>>()?;
    let state = KeyState::from_parts(kind, expires_at, shadow, generations, global, assets)
        .map_err(|_| Misread::Corrupt("more assets than a key may have"))?;
    Ok(Known { stamp, state })
}

/// The limits of a scope, in force and pending.
struct Limits {
    windows: Option<[WindowLimits; 2]>,
    pending: [Option<WindowLimits>; 2],
}

impl Limits {
    fn read(reader: &mut Reader<'_>) -> Result<Self, Misread> {
        let Some(types) = reader.byte()?.checked_sub(1) else {
            return Ok(Self { windows: None, pending: [None; 2] });
        };
        let mut limits = |code| read_limits(reader, code);
        let windows = [limits(types % 3)?, limits(types / 3)?];
        let flags = reader.byte()?;
        let mut pending = |flag: u8| {
            let code = flag.checked_sub(1);
            code.map(|code| read_limits(reader, code)).transpose()
        };
        let pending = [pending(flags % 4)?, pending(flags / 4)?];
        Ok(Self { windows: Some(windows), pending })
    }

    fn scope(
        &self,
        hot: &[u8],
        thresholds: Thresholds,
        budget: Option<Option<u64>>,
    ) -> Result<(super::Stamp, ScopeState), Misread> {
        let full = Record::with_limits(thresholds, self.windows, budget);
        let (stamp, record) = Layout::of(&full).read(hot, &full)?;
        let scope = ScopeState::from_parts(record, self.pending);
        Ok((stamp, scope.map_err(|_| Misread::Corrupt("a scope without limits is counted"))?))
    }
}

fn read_limits(reader: &mut Reader<'_>, code: u8) -> Result<WindowLimits, Misread> {
    let token_type = match code {
        0 => TokenType::Total,
        1 => TokenType::Output,
        2 => TokenType::Input,
        _ => return Err(Misread::Corrupt("a token type that does not exist")),
    };
    let (requests, tokens) = (reader.limit()?, reader.limit()?);
    WindowLimits::from_parts(requests, tokens, token_type).map_err(|_| OUT_OF_BOUNDS)
}

const fn code(limits: WindowLimits) -> u8 {
    match limits.token_type() {
        TokenType::Output => 1,
        TokenType::Input => 2,
        _ => 0,
    }
}

/// In percent, rising; 0 for those that are not there.
fn packed(thresholds: Thresholds) -> [u8; Thresholds::MOST] {
    let mut percents = [0; Thresholds::MOST];
    for (place, percent) in percents.iter_mut().zip(thresholds.percents()) {
        *place = percent;
    }
    percents
}

const NO_THRESHOLDS: Misread = Misread::Corrupt("thresholds that do not exist");
/// The only format so far.
const FORMAT: u8 = 1;
/// The expiry of a key that never expires: above every [`Timestamp`].
const NEVER: i64 = 1 << 54;
