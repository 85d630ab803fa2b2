//! Reading and writing the lines of the replay format.

use std::collections::BTreeMap;

use limiter_conformance::replay::{
    Action, Amount, Answer, Call, Change, Charged, Cost, Create, Credits, Crossed, Day, Denial,
    Effective, Event, Exceeded, KeyKind, LevelRule, Limits, Measure, Operation, Other, Plan,
    Problem, Remaining, Reserve, Row, Rule, RuleUsage, Scope, ScopeName, TimeZone, Totals, Unit,
    Update, Usage, Window, read,
};

const GLOBAL_MINUTE_REQUESTS: Rule = Rule::of(Scope::Global, Window::Minute, Unit::Requests);
const ASSET_DAY_TOKENS: Rule = Rule::of(Scope::Asset, Window::Day, Unit::Tokens);

#[test]
fn the_examples_of_operations_are_read() {
    let create = Create {
        key: "k1".to_owned(),
        global: requests_per_minute(10),
        assets: BTreeMap::from([(
            "m1".to_owned(),
            Some(limits([((Window::Day, Unit::OutputTokens), 30)])),
        )]),
        budget: Some(Amount::Limited(5_000_000)),
        ..member("k1")
    };
    let update = Update {
        key: "k1".to_owned(),
        global: Change::Set(requests_per_minute(20)),
        assets: Change::Set(BTreeMap::new()),
        budget: Change::Clear,
        ..Update::default()
    };
    let check = Call {
        key: "k1".to_owned(),
        asset: Some("m1".to_owned()),
        requests: 1,
        input: 5,
        output: 7,
        credits: 1000,
        request_id: None,
    };
    let peek = Call { input: 0, credits: 0, ..check.clone() };
    let key = "k1".to_owned();
    for (line, at, action) in [
        (
            r#"{"at":1760000000000,"op":"create","key":"k1","kind":"member","global":{"requests_per_minute":10},"assets":{"m1":{"tokens_per_day":30,"token_type":"output"}},"budget":5000000,"expires_at":null}"#,
            1_760_000_000_000,
            Action::Create(create),
        ),
        (
            r#"{"at":1760000001000,"op":"update","key":"k1","global":{"requests_per_minute":20},"assets":{},"budget":null}"#,
            1_760_000_001_000,
            Action::Update(update),
        ),
        (
            r#"{"at":1760000002000,"op":"check","key":"k1","asset":"m1","requests":1,"input":5,"output":7,"credits":1000}"#,
            1_760_000_002_000,
            Action::Check(check),
        ),
        (
            r#"{"at":1760000002000,"op":"peek","key":"k1","asset":"m1","output":7}"#,
            1_760_000_002_000,
            Action::Peek(peek),
        ),
        (
            r#"{"at":1760000003000,"op":"usage","key":"k1"}"#,
            1_760_000_003_000,
            Action::Usage { key: key.clone() },
        ),
        (
            r#"{"at":1760000006000,"op":"delete","key":"k1"}"#,
            1_760_000_006_000,
            Action::Delete { key },
        ),
    ] {
        let operation = Operation { at, action };
        assert_eq!(read(line).unwrap(), operation);
        assert_eq!(read(&operation.to_line()).unwrap(), operation);
    }
}

#[test]
fn the_examples_of_reservations_are_read() {
    let key = || "k1".to_owned();
    let id = || "r1".to_owned();
    let asset = Some("m1".to_owned());
    let estimate =
        Call { key: key(), asset, requests: 1, input: 0, output: 7, credits: 0, request_id: None };
    let totals =
        |input, output| Totals { key: key(), id: id(), input, output, ..Totals::default() };
    let check = Call { request_id: Some("a".to_owned()), ..estimate.clone() };
    for (line, at, action) in [
        (
            r#"{"at":1760000004000,"op":"reserve","key":"k1","asset":"m1","output":7,"id":"r1","ttl_ms":60000}"#,
            1_760_000_004_000,
            Action::Reserve(Reserve { estimate, id: id(), ttl_ms: 60_000 }),
        ),
        (
            r#"{"at":1760000004500,"op":"extend","key":"k1","id":"r1","output":10}"#,
            1_760_000_004_500,
            Action::Amend(totals(None, Some(10))),
        ),
        (
            r#"{"at":1760000005000,"op":"settle","key":"k1","id":"r1","input":5,"output":4}"#,
            1_760_000_005_000,
            Action::Settle(totals(Some(5), Some(4))),
        ),
        (
            r#"{"at":1760000005000,"op":"cancel","key":"k1","id":"r2"}"#,
            1_760_000_005_000,
            Action::Cancel { key: key(), id: "r2".to_owned() },
        ),
        (
            r#"{"at":1,"op":"check","key":"k1","asset":"m1","output":7,"request_id":"a"}"#,
            1,
            Action::Check(check),
        ),
    ] {
        let operation = Operation { at, action };
        assert_eq!(read(line).unwrap(), operation);
        assert_eq!(read(&operation.to_line()).unwrap(), operation);
    }
}

#[test]
fn a_reservation_that_breaks_the_format_is_unreadable() {
    for (line, sentence) in [
        (r#"{"at":1,"op":"reserve","key":"k","id":"r"}"#, "the field `ttl_ms` is missing"),
        (r#"{"at":1,"op":"reserve","key":"k","ttl_ms":1}"#, "the field `id` is missing"),
        (r#"{"at":1,"op":"reserve","id":"r","ttl_ms":1}"#, "the field `key` is missing"),
        (r#"{"at":1,"op":"reserve","key":"k","id":null,"ttl_ms":1}"#, "in `id`"),
        (r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":null}"#, "in `ttl_ms`"),
        (r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":-1}"#, "in `ttl_ms`"),
        (
            r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":1,"request_id":"a"}"#,
            "unknown field `request_id`",
        ),
        (r#"{"at":1,"op":"extend","key":"k"}"#, "the field `id` is missing"),
        (r#"{"at":1,"op":"amend","key":"k","id":"r","requests":null}"#, "in `requests`"),
        (r#"{"at":1,"op":"extend","key":"k","id":"r","asset":"m"}"#, "unknown field `asset`"),
        (r#"{"at":1,"op":"extend","key":"k","id":"r","output":null}"#, "in `output`"),
        (r#"{"at":1,"op":"settle","key":"k","id":"r","ttl_ms":1}"#, "unknown field `ttl_ms`"),
        (r#"{"at":1,"op":"settle","key":"k","id":"r","credits":null}"#, "in `credits`"),
        (r#"{"at":1,"op":"cancel","key":"k","id":"r","output":0}"#, "unknown field `output`"),
        (r#"{"at":1,"op":"cancel","key":"k","id":7}"#, "in `id`: expected a string"),
    ] {
        let problem = read(line).unwrap_err().to_string();
        assert!(problem.contains(sentence), "{problem}: {line}");
    }
    let null_asset = r#"{"at":1,"op":"reserve","key":"k","asset":null,"id":"r","ttl_ms":1}"#;
    assert!(read(null_asset).is_ok());
}

#[test]
fn a_reservation_out_of_its_bounds_is_invalid() {
    let (long, longest) = ("é".repeat(64) + "x", "é".repeat(64));
    for line in [
        r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":0}"#.to_owned(),
        r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":9007199254740992}"#.to_owned(),
        r#"{"at":1,"op":"reserve","key":"k","id":"","ttl_ms":1}"#.to_owned(),
        format!(r#"{{"at":1,"op":"reserve","key":"k","id":"{long}","ttl_ms":1}}"#),
        format!(r#"{{"at":1,"op":"cancel","key":"k","id":"{long}"}}"#),
        r#"{"at":1,"op":"extend","key":"k","id":"r","input":9007199254740992}"#.to_owned(),
        r#"{"at":1,"op":"settle","key":"k","id":"r","credits":9007199254740992}"#.to_owned(),
        r#"{"at":1,"op":"settle","key":"k","id":""}"#.to_owned(),
    ] {
        assert!(!read(&line).unwrap().is_within_bounds(), "{line}");
    }
    for line in [
        format!(r#"{{"at":1,"op":"cancel","key":"k","id":"{longest}"}}"#),
        r#"{"at":1,"op":"reserve","key":"k","id":"r","ttl_ms":9007199254740991}"#.to_owned(),
        // The sum is judged where the reservation is known.
        r#"{"at":1,"op":"settle","key":"k","id":"r","input":9007199254740991,"output":1}"#
            .to_owned(),
    ] {
        assert!(read(&line).unwrap().is_within_bounds(), "{line}");
    }
}

#[test]
fn the_examples_of_answers_are_written() {
    let remaining =
        [(GLOBAL_MINUTE_REQUESTS, 9), (Rule::BUDGET, 4_999_000), (ASSET_DAY_TOKENS, 23)];
    let remaining = remaining.map(|(rule, left)| (LevelRule::from(rule), left)).to_vec();
    let rate_limited = Denial::RateLimited(Exceeded {
        violated: vec![ASSET_DAY_TOKENS.into()],
        binding: ASSET_DAY_TOKENS.into(),
        retry_at: Some(1_760_054_400_000),
    });
    let exhausted = Denial::BudgetExhausted(Exceeded {
        violated: vec![Rule::BUDGET.into(), ASSET_DAY_TOKENS.into()],
        binding: Rule::BUDGET.into(),
        retry_at: None,
    });
    // The line leaves it out.
    let crossed = Crossed {
        group: None,
        rule: ASSET_DAY_TOKENS,
        asset: Some("m1".to_owned()),
        percent: 80,
        limit: 115,
        used: 92,
        resets_at: Some(1_760_054_400_000),
    };
    let account = Cost { requests: 1, input: 5, output: 7, ..Cost::default() };
    let budget = RuleUsage {
        measure: Measure::Amount(Window::Ever, Unit::Credits),
        used: 1_000,
        limit: 5_000_000,
        resets_at: None,
    };
    let minute = RuleUsage {
        measure: Measure::Amount(Window::Minute, Unit::Requests),
        used: 1,
        limit: 10,
        resets_at: Some(1_760_000_040_000),
    };
    let row = |scope, rules| Row { scope, account: account.clone(), rules, pending: Vec::new() };
    let usage = Usage {
        rows: vec![
            row(ScopeName::Global, vec![minute, budget]),
            row(ScopeName::Asset("m1".to_owned()), Vec::new()),
        ],
        credits: Credits { spent: 1000, budget: Some(5_000_000) },
    };
    let history = vec![Day {
        start: 1_760_000_000_000,
        scopes: vec![
            (ScopeName::Global, account.clone()),
            (ScopeName::Asset("m1".to_owned()), Cost::default()),
            (ScopeName::Other, Cost::default()),
        ],
    }];
    let events = vec![
        Event("acme/ci".to_owned(), GLOBAL_MINUTE_REQUESTS, 50),
        Event("k".to_owned(), Rule::BUDGET, 100),
    ];
    let nothing = r#"{"requests":0,"input":0,"output":0,"credits":0}"#;
    let counted = r#"{"requests":1,"input":5,"output":7,"credits":0}"#;
    let days = format!(
        r#"{{"days":[{{"start":1760000000000,"scopes":[["global",{counted}],["asset:m1",{nothing}],["other",{nothing}]]}}]}}"#
    );
    let rows = format!(
        r#"{{"rows":[{{"scope":"global","account":{counted},"rules":{{"minute/requests":{{"used":1,"limit":10,"resets_at":1760000040000}},"ever/credits":{{"used":1000,"limit":5000000,"resets_at":null}}}}}},{{"scope":"m1","account":{counted},"rules":{{}}}}],"credits":{{"spent":1000,"budget":5000000}}}}"#
    );
    let first_rows = r#"{"rows":[{"scope":"global","minute":{"requests":{"used":1,"limit":10},"tokens":{"used":null,"limit":null}},"day":{"requests":{"used":1,"limit":null},"tokens":{"used":12,"limit":null}}}],"credits":{"spent":1000,"budget":5000000}}"#;
    assert_eq!(Answer::Usage(usage.clone()).to_first_line(), first_rows);
    let first = |answer: Answer| answer.to_first_line();
    assert_eq!(
        first(Answer::Denied(exhausted.clone())),
        r#"{"allowed":false,"reason":"budget_exhausted"}"#
    );
    let (replayed, crossed_none) = (false, Vec::new());
    let allowed = Answer::Allowed {
        replayed,
        remaining: Remaining(remaining.clone()),
        crossed: crossed_none,
    };
    assert_eq!(
        first(allowed),
        r#"{"allowed":true,"remaining":{"global/minute/requests":9,"asset/day/tokens":23,"budget":4999000}}"#
    );
    let settled = Answer::Settled { cost: account.clone(), repeated: false, crossed: Vec::new() };
    assert_eq!(first(settled), r#"{"ok":true}"#);
    for (answer, line) in [
        (Answer::Ok, r#"{"ok":true}"#),
        (
            Answer::Settled { cost: account, repeated: false, crossed: vec![crossed.clone()] },
            r#"{"ok":true,"charged":{"requests":1,"input":5,"output":7,"credits":0}}"#,
        ),
        (Answer::Updated { crossed: vec![crossed.clone()] }, r#"{"ok":true}"#),
        (Answer::Error(Problem::Stale), r#"{"error":"stale"}"#),
        (Answer::Error(Problem::UnknownKey), r#"{"error":"unknown_key"}"#),
        (Answer::Error(Problem::AlreadyExists), r#"{"error":"already_exists"}"#),
        (Answer::Error(Problem::Invalid), r#"{"error":"invalid"}"#),
        (
            Answer::Allowed {
                replayed: false,
                remaining: Remaining(remaining),
                crossed: vec![crossed],
            },
            r#"{"allowed":true,"remaining":{"global/minute/requests":9,"budget":4999000,"asset/day/tokens":23}}"#,
        ),
        (
            Answer::Allowed {
                replayed: true,
                remaining: Remaining::default(),
                crossed: Vec::new(),
            },
            r#"{"allowed":true,"replayed":true,"remaining":{}}"#,
        ),
        (Answer::Error(Problem::UnknownReservation), r#"{"error":"unknown_reservation"}"#),
        (Answer::Error(Problem::AlreadySettled), r#"{"error":"already_settled"}"#),
        (
            Answer::Allowed {
                replayed: false,
                remaining: Remaining::default(),
                crossed: Vec::new(),
            },
            r#"{"allowed":true,"remaining":{}}"#,
        ),
        (
            Answer::Shadowed { denial: rate_limited.clone(), charged: None },
            r#"{"allowed":true,"shadowed":{"reason":"rate_limited","violated":["asset/day/tokens"],"binding":"asset/day/tokens","retry_at":1760054400000}}"#,
        ),
        (
            Answer::Denied(rate_limited),
            r#"{"allowed":false,"reason":"rate_limited","violated":["asset/day/tokens"],"binding":"asset/day/tokens","retry_at":1760054400000}"#,
        ),
        (Answer::Denied(Denial::UnknownKey), r#"{"allowed":false,"reason":"unknown_key"}"#),
        (
            Answer::Denied(Denial::ExpiredKey { group: None }),
            r#"{"allowed":false,"reason":"expired_key"}"#,
        ),
        (Answer::Denied(Denial::AdminKey), r#"{"allowed":false,"reason":"admin_key"}"#),
        (
            Answer::Denied(Denial::AssetDenied { group: Some("acme".to_owned()) }),
            r#"{"allowed":false,"reason":"asset_denied"}"#,
        ),
        (
            Answer::Denied(exhausted),
            r#"{"allowed":false,"reason":"budget_exhausted","violated":["budget","asset/day/tokens"],"binding":"budget","retry_at":null}"#,
        ),
        (Answer::Usage(usage), rows.as_str()),
        (Answer::History(history), days.as_str()),
        (
            Answer::Events(events),
            r#"{"events":[["acme/ci","global/minute/requests",50],["k","global/ever/credits",100]]}"#,
        ),
    ] {
        assert_eq!(answer.to_line(), line);
    }
}

#[test]
fn a_line_that_breaks_the_format_is_unreadable() {
    for (line, sentence) in [
        ("", "expected one JSON object with each field once"),
        (r#"["check"]"#, "expected one JSON object with each field once"),
        (r#"{"at":1,"op":"usage","key":"k"} {}"#, "expected one JSON object with each field once"),
        (r#"{"at":1,"op":"usage","key":"k","at":1}"#, "the field `at` is there twice"),
        (r#"{"op":"usage","key":"k"}"#, "the field `at` is missing"),
        (r#"{"at":1,"key":"k"}"#, "the field `op` is missing"),
        (r#"{"at":1,"op":"usage"}"#, "the field `key` is missing"),
        (r#"{"at":1,"op":"ask","key":"k"}"#, "unknown operation `ask`"),
        (r#"{"at":1,"op":"usage","key":"k","asset":"m1"}"#, "unknown field `asset`"),
        (r#"{"at":1,"op":"peek","key":"k","request_id":"a"}"#, "unknown field `request_id`"),
        (
            r#"{"at":1,"op":"create","key":"k","global":{"rpm":1}}"#,
            "in `global`: unknown field `rpm`",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","global":[1]}"#,
            "in `global`: expected one JSON object",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","assets":{"a":{},"a":{}}}"#,
            "the field `a` is there twice",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","kind":"owner"}"#,
            "in `kind`: expected `member`, `admin` or `group`",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","kind":{"admin":null}}"#,
            "in `kind`: expected a string",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","global":{"token_type":"all"}}"#,
            "in `token_type`: expected `total`",
        ),
        (r#"{"at":-1,"op":"usage","key":"k"}"#, "in `at`: expected a whole number from 0"),
        (r#"{"at":1.0,"op":"usage","key":"k"}"#, "in `at`: expected a whole number from 0"),
        (r#"{"at":1e3,"op":"usage","key":"k"}"#, "in `at`: expected a whole number from 0"),
        (r#"{"at":"1","op":"usage","key":"k"}"#, "in `at`: expected a whole number from 0"),
        (r#"{"at":1,"op":"usage","key":7}"#, "in `key`: expected a string"),
        // Too large and unreadable: the line is not read, so its bounds do not matter.
        (r#"{"at":9007199254740992,"op":"usage","key":"k","more":1}"#, "unknown field `more`"),
    ] {
        let problem = read(line).unwrap_err().to_string();
        assert!(problem.contains(sentence), "{problem}: {line}");
    }
}

#[test]
fn null_is_allowed_only_where_the_format_says_so() {
    for line in [
        r#"{"at":1,"op":"check","key":"k","asset":null,"request_id":null}"#,
        r#"{"at":1,"op":"create","key":"k","global":null,"assets":null,"budget":null,"expires_at":null}"#,
        r#"{"at":1,"op":"create","key":"k","global":{"tokens_per_day":null},"assets":{"m1":null}}"#,
    ] {
        assert!(read(line).unwrap().is_within_bounds(), "{line}");
    }
    for line in [
        r#"{"at":null,"op":"usage","key":"k"}"#,
        r#"{"at":1,"op":null,"key":"k"}"#,
        r#"{"at":1,"op":"usage","key":null}"#,
        r#"{"at":1,"op":"create","key":"k","kind":null}"#,
        r#"{"at":1,"op":"create","key":"k","global":{"token_type":null}}"#,
        r#"{"at":1,"op":"check","key":"k","requests":null}"#,
        r#"{"at":1,"op":"check","key":"k","input":null}"#,
        r#"{"at":1,"op":"check","key":"k","credits":null}"#,
    ] {
        assert!(read(line).is_err(), "{line}");
    }
}

#[test]
fn a_number_or_an_id_out_of_its_bounds_is_invalid() {
    for number in
        ["9007199254740992", "18446744073709551616", "99999999999999999999999999999999999999999999"]
    {
        for line in [
            format!(r#"{{"at":{number},"op":"usage","key":"k"}}"#),
            format!(r#"{{"at":1,"op":"check","key":"k","credits":{number}}}"#),
            format!(r#"{{"at":1,"op":"create","key":"k","budget":{number}}}"#),
            format!(r#"{{"at":1,"op":"update","key":"k","expires_at":{number}}}"#),
            format!(
                r#"{{"at":1,"op":"update","key":"k","assets":{{"m1":{{"tokens_per_day":{number}}}}}}}"#
            ),
        ] {
            assert!(!read(&line).unwrap().is_within_bounds(), "{line}");
        }
    }
    let long_asset = "é".repeat(128) + "x";
    let long_id = "x".repeat(129);
    for line in [
        r#"{"at":1,"op":"check","key":"k","input":9007199254740991,"output":1}"#.to_owned(),
        r#"{"at":1,"op":"check","key":"k","asset":""}"#.to_owned(),
        format!(r#"{{"at":1,"op":"check","key":"k","asset":"{long_asset}"}}"#),
        format!(r#"{{"at":1,"op":"create","key":"k","assets":{{"{long_asset}":null}}}}"#),
        r#"{"at":1,"op":"check","key":"k","request_id":""}"#.to_owned(),
        r#"{"at":1,"op":"create","key":"k","expires_at":253402300800000}"#.to_owned(),
        r#"{"at":1,"op":"update","key":"k","expires_at":253402300800000}"#.to_owned(),
        format!(r#"{{"at":1,"op":"check","key":"k","request_id":"{long_id}"}}"#),
    ] {
        assert!(!read(&line).unwrap().is_within_bounds(), "{line}");
    }
}

#[test]
fn what_just_keeps_to_its_bounds_is_read() {
    let asset = "é".repeat(128);
    for line in [
        r#"{"at":9007199254740991,"op":"usage","key":"k"}"#.to_owned(),
        r#"{"at":1,"op":"check","key":"k","input":9007199254740990,"output":1}"#.to_owned(),
        format!(r#"{{"at":1,"op":"check","key":"k","asset":"{asset}"}}"#),
    ] {
        assert!(read(&line).unwrap().is_within_bounds(), "{line}");
    }
}

#[test]
fn an_update_distinguishes_absent_from_null() {
    let line = r#"{"at":1,"op":"update","key":"k","global":null,"assets":null}"#;
    let operation = read(line).unwrap();
    let update = Update {
        key: "k".to_owned(),
        global: Change::Clear,
        assets: Change::Clear,
        ..Update::default()
    };
    assert_eq!(operation.action, Action::Update(update));
    assert_eq!(operation.to_line(), line);
}

#[test]
fn a_line_may_keep_its_end_and_escape_what_it_likes() {
    let line = "{\"at\":1,\"op\":\"us\\u0061ge\",\"k\\u0065y\":\"\\u00e9\"}\r\n";
    let operation = Operation { at: 1, action: Action::Usage { key: "é".to_owned() } };
    assert_eq!(read(line).unwrap(), operation);
}

#[test]
fn the_examples_of_the_second_version_are_read() {
    let key = "ci".to_owned();
    let create = Create {
        global: limits([
            ((Window::Minute, Unit::Requests), 100),
            ((Window::Month, Unit::Credits), 5_000_000),
        ]),
        other: Some(Other::Denied),
        time_zone: "Europe/Berlin".parse().unwrap(),
        thresholds: Some(vec![50, 100]),
        shadow: true,
        ..member("ci")
    };
    let week = limits([((Window::Week, Unit::Tokens), 7)]);
    let update = Update {
        key: key.clone(),
        effective: Effective::Now,
        version: Some(3),
        global: Change::Set(week.clone()),
        other: Change::Set(Other::Limited(week)),
        time_zone: Change::Clear,
        thresholds: Change::Clear,
        shadow: Some(false),
        ..Update::default()
    };
    let (id, output) = ("r1".to_owned(), Some(2));
    let settle = Totals {
        key: key.clone(),
        id: id.clone(),
        requests: Some(1),
        output: Some(1),
        ..Totals::default()
    };
    let amend = Totals { key: key.clone(), id, output, ..Totals::default() };
    for (line, action) in [
        (
            r#"{"at":1,"op":"create","key":"ci","global":{"limits":{"minute/requests":100,"month/credits":5000000}},"other":"denied","time_zone":"Europe/Berlin","thresholds":[50,100],"shadow":true}"#,
            Action::Create(create),
        ),
        (
            r#"{"at":1,"op":"update","key":"ci","effective":"now","version":3,"global":{"limits":{"week/tokens":7}},"other":{"limits":{"week/tokens":7}},"time_zone":null,"thresholds":null,"shadow":false}"#,
            Action::Update(update),
        ),
        (r#"{"at":1,"op":"amend","key":"ci","id":"r1","output":2}"#, Action::Amend(amend)),
        (
            r#"{"at":1,"op":"settle","key":"ci","id":"r1","requests":1,"output":1}"#,
            Action::Settle(settle),
        ),
        (r#"{"at":1,"op":"reset","key":"ci"}"#, Action::Reset { key: key.clone() }),
        (r#"{"at":1,"op":"events"}"#, Action::Events {}),
        (r#"{"at":1,"op":"history","key":"ci","days":3}"#, Action::History { key, days: 3 }),
    ] {
        let operation = Operation { at: 1, action };
        assert_eq!(read(line).unwrap(), operation);
        assert_eq!(read(&operation.to_line()).unwrap(), operation);
    }
}

#[test]
fn a_group_is_created_by_its_path() {
    let line = r#"{"at":1,"op":"create","key":"acme/search","kind":"group"}"#;
    let create = Create { kind: KeyKind::Group, ..member("acme/search") };
    let operation = Operation { at: 1, action: Action::Create(create) };
    assert_eq!(read(line).unwrap(), operation);
    assert_eq!(operation.to_line(), line);
}

#[test]
fn a_path_has_at_most_four_segments_and_that_of_an_admin_has_one() {
    for (line, is_valid) in [
        (r#"{"at":1,"op":"create","key":"a/b/c/d"}"#, true),
        (r#"{"at":1,"op":"create","key":"a/b/c/d/e"}"#, false),
        (r#"{"at":1,"op":"create","key":"a/b","kind":"admin"}"#, false),
        (r#"{"at":1,"op":"create","key":"a","kind":"admin"}"#, true),
        (r#"{"at":1,"op":"check","key":"a/b/c/d/e"}"#, false),
        (r#"{"at":1,"op":"cancel","key":"a/b/c/d/e","id":"r"}"#, false),
        (r#"{"at":1,"op":"usage","key":"a//c"}"#, true),
    ] {
        assert_eq!(read(line).unwrap().is_within_bounds(), is_valid, "{line}");
    }
}

#[test]
fn the_rules_of_a_group_carry_its_path() {
    let of = |group: &str, rule| LevelRule { group: Some(group.to_owned()), rule };
    let rules = [
        of("acme", GLOBAL_MINUTE_REQUESTS),
        of("acme", Rule::BUDGET),
        of("acme/search", ASSET_DAY_TOKENS),
        GLOBAL_MINUTE_REQUESTS.into(),
    ];
    assert!(rules.is_sorted(), "outermost level first");
    let remaining = Remaining(rules.iter().cloned().zip(1..).collect());
    let crossed = |group: Option<&str>| Crossed {
        group: group.map(str::to_owned),
        rule: GLOBAL_MINUTE_REQUESTS,
        asset: None,
        percent: 80,
        limit: 10,
        used: 8,
        resets_at: None,
    };
    let crossed = vec![crossed(Some("acme")), crossed(None)];
    let allowed =
        Answer::Allowed { replayed: false, remaining: remaining.clone(), crossed: crossed.clone() };
    assert_eq!(
        allowed.to_line(),
        r#"{"allowed":true,"remaining":{"acme:global/minute/requests":1,"acme:budget":2,"acme/search:asset/day/tokens":3,"global/minute/requests":4}}"#
    );
    let exceeded =
        Exceeded { violated: rules[..2].to_vec(), binding: rules[1].clone(), retry_at: None };
    let denial = Denial::BudgetExhausted(exceeded);
    let reason = r#""reason":"budget_exhausted","violated":["acme:global/minute/requests","acme:budget"],"binding":"acme:budget","retry_at":null"#;
    let denied = Answer::Denied(denial.clone());
    assert_eq!(denied.to_line(), format!(r#"{{"allowed":false,{reason}}}"#));
    let charged = Some(Charged { remaining, crossed });
    let shadowed = Answer::Shadowed { denial, charged };
    assert_eq!(shadowed.to_line(), format!(r#"{{"allowed":true,"shadowed":{{{reason}}}}}"#));
    for answer in [allowed, shadowed] {
        let events: Vec<_> = answer.events("acme/search/ci").collect();
        let event = |key: &str| Event(key.to_owned(), GLOBAL_MINUTE_REQUESTS, 80);
        assert_eq!(events, [event("acme"), event("acme/search/ci")]);
    }
    for (problem, line) in [
        (Problem::NoGroup, r#"{"error":"no_group"}"#),
        (Problem::NotEmpty, r#"{"error":"not_empty"}"#),
        (Problem::NoPlan, r#"{"error":"no_plan"}"#),
        (Problem::InUse, r#"{"error":"in_use"}"#),
    ] {
        assert_eq!(Answer::Error(problem).to_line(), line);
    }
}

#[test]
fn the_budget_is_a_limit_of_all_calls() {
    let line = |fields: &str| read(&format!(r#"{{"at":1,"op":"create","key":"k",{fields}}}"#));
    let by_name = line(r#""budget":7"#).unwrap();
    assert_eq!(line(r#""global":{"limits":{"ever/credits":7}}"#).unwrap(), by_name);
    let both = line(r#""budget":7,"global":{"limits":{"ever/credits":7}}"#).unwrap_err();
    assert!(both.to_string().contains("name one of them"), "{both}");
}

#[test]
fn a_parallel_limit_stands_beside_global_and_in_assets_and_other() {
    let line = r#"{"at":1,"op":"create","key":"acme/ci","kind":"member","parallel":2,"assets":{"m1":{"limits":{"day/tokens":5},"parallel":1}},"other":{"parallel":0}}"#;
    let of = |parallel, tokens: &[_]| Limits {
        amounts: tokens.iter().copied().collect(),
        parallel: Some(Amount::Limited(parallel)),
    };
    let tokens = ((Window::Day, Unit::Tokens), Amount::Limited(5));
    let create = Create {
        parallel: Some(Amount::Limited(2)),
        assets: [("m1".to_owned(), Some(of(1, &[tokens])))].into(),
        other: Some(Other::Limited(of(0, &[]))),
        ..member("acme/ci")
    };
    let operation = Operation { at: 1, action: Action::Create(create) };
    assert_eq!(read(line).unwrap(), operation);
    assert_eq!(operation.to_line(), line);
    for (written, parallel) in [
        ("2", Change::Set(Amount::Limited(2))),
        ("\"unlimited\"", Change::Set(Amount::Unlimited)),
        ("null", Change::Clear),
    ] {
        let line = format!(r#"{{"at":1,"op":"update","key":"k","parallel":{written}}}"#);
        let update = Update { key: "k".to_owned(), parallel, ..Update::default() };
        let operation = Operation { at: 1, action: Action::Update(update) };
        assert_eq!(read(&line).unwrap(), operation);
        assert_eq!(operation.to_line(), line);
    }
    let in_global = r#"{"at":1,"op":"create","key":"k","global":{"parallel":2}}"#;
    let problem = read(in_global).unwrap_err().to_string();
    assert!(problem.contains("a field of the line"), "{problem}");
    for line in [
        r#"{"at":1,"op":"create","key":"k","parallel":9007199254740992}"#,
        r#"{"at":1,"op":"update","key":"k","other":{"parallel":9007199254740992}}"#,
    ] {
        assert!(!read(line).unwrap().is_within_bounds(), "{line}");
    }
}

#[test]
fn the_usage_of_a_parallel_limit_is_a_rule_without_a_reset() {
    let rule = RuleUsage { measure: Measure::Parallel, used: 1, limit: 2, resets_at: None };
    let rows = vec![Row::uncounted(ScopeName::Other, rule)];
    let usage = Answer::Usage(Usage { rows, credits: Credits { spent: 0, budget: None } });
    let row = r#"{"scope":"other","account":{"requests":0,"input":0,"output":0,"credits":0},"rules":{"parallel":{"used":1,"limit":2,"resets_at":null}}}"#;
    let credits = r#""credits":{"spent":0,"budget":null}"#;
    assert_eq!(usage.to_line(), format!(r#"{{"rows":[{row}],{credits}}}"#));
}

#[test]
fn what_comes_later_is_refused_with_a_sentence() {
    for (line, sentence) in [
        (
            r#"{"at":1,"op":"create","key":"k","kind":"team"}"#,
            "expected `member`, `admin` or `group`",
        ),
        (r#"{"at":1,"op":"create","key":"k","open":7}"#, "in `open`: expected a string"),
        (
            r#"{"at":1,"op":"create","key":"k","global":{"limits":{"day/tokens":"endless"}}}"#,
            "expected a whole number from 0, or `unlimited`",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","global":{"limits":{"year/tokens":1}}}"#,
            "`year/tokens` is no limit",
        ),
        (
            r#"{"at":1,"op":"create","key":"k","global":{"limits":{"day/tokens":1},"tokens_per_day":1}}"#,
            "name one of them",
        ),
        (r#"{"at":1,"op":"create","key":"k","other":"allowed"}"#, "expected `denied` or limits"),
        (r#"{"at":1,"op":"create","key":"k","time_zone":"Berlin"}"#, "in `time_zone`: "),
        (r#"{"at":1,"op":"create","key":"k","thresholds":[1.5]}"#, "in `thresholds`: "),
        (r#"{"at":1,"op":"update","key":"k","effective":"later"}"#, "expected `next` or `now`"),
        (r#"{"at":1,"op":"update","key":"k","shadow":null}"#, "expected `true` or `false`"),
        (r#"{"at":1,"op":"history","key":"k"}"#, "the field `days` is missing"),
        (r#"{"at":1,"op":"events","key":"k"}"#, "unknown field `key`"),
        (r#"{"at":1,"op":"plan","global":{}}"#, "the field `plan` is missing"),
        (r#"{"at":1,"op":"plan","plan":null}"#, "in `plan`: expected a string"),
        (r#"{"at":1,"op":"plan","plan":"free","shadow":true}"#, "unknown field `shadow`"),
        (r#"{"at":1,"op":"plan","plan":"free","version":1}"#, "unknown field `version`"),
        (r#"{"at":1,"op":"delete_plan"}"#, "the field `plan` is missing"),
        (r#"{"at":1,"op":"create","key":"k","plan":7}"#, "in `plan`: expected a string"),
    ] {
        let problem = read(line).unwrap_err().to_string();
        assert!(problem.contains(sentence), "{problem}: {line}");
    }
    for (line, is_valid) in [
        (r#"{"at":1,"op":"create","key":"k","thresholds":[1,100,1]}"#, true),
        (r#"{"at":1,"op":"create","key":"k","thresholds":[0]}"#, false),
        (r#"{"at":1,"op":"create","key":"k","thresholds":[101]}"#, false),
        (r#"{"at":1,"op":"create","key":"k","thresholds":[1,2,3,4,5]}"#, false),
        (r#"{"at":1,"op":"history","key":"k","days":0}"#, false),
    ] {
        assert_eq!(read(line).unwrap().is_within_bounds(), is_valid, "{line}");
    }
}

#[test]
fn plans_and_what_lifts_them_are_read_and_written() {
    let requests = ((Window::Minute, Unit::Requests), Amount::Limited(1));
    let lifted = ((Window::Day, Unit::Tokens), Amount::Unlimited);
    let of = |amounts: &[_]| Limits { amounts: amounts.iter().copied().collect(), parallel: None };
    let plan = Plan {
        plan: "free".to_owned(),
        effective: Effective::Now,
        global: Change::Set(of(&[requests])),
        parallel: Change::Set(Amount::Limited(2)),
        assets: Change::Set([("m1".to_owned(), Some(of(&[requests])))].into()),
        other: Change::Clear,
        budget: Change::Clear,
        time_zone: Change::Set("Europe/Berlin".parse().unwrap()),
        thresholds: Change::Set(vec![50, 100]),
    };
    let create = Create {
        plan: Some("free".to_owned()),
        global: of(&[requests, lifted]),
        parallel: Some(Amount::Unlimited),
        other: Some(Other::Limited(Limits {
            parallel: Some(Amount::Unlimited),
            ..Limits::default()
        })),
        budget: Some(Amount::Unlimited),
        ..member("k")
    };
    let update = |plan| Update { key: "k".to_owned(), plan, ..Update::default() };
    for (line, action) in [
        (
            r#""op":"plan","plan":"free","effective":"now","global":{"limits":{"minute/requests":1}},"parallel":2,"assets":{"m1":{"limits":{"minute/requests":1}}},"other":null,"budget":null,"time_zone":"Europe/Berlin","thresholds":[50,100]"#,
            Action::Plan(plan),
        ),
        (
            r#""op":"plan","plan":"pro""#,
            Action::Plan(Plan { plan: "pro".to_owned(), ..Plan::default() }),
        ),
        (r#""op":"delete_plan","plan":"free""#, Action::DeletePlan { plan: "free".to_owned() }),
        (
            r#""op":"create","key":"k","kind":"member","plan":"free","global":{"limits":{"minute/requests":1,"day/tokens":"unlimited"}},"parallel":"unlimited","other":{"parallel":"unlimited"},"budget":"unlimited""#,
            Action::Create(create),
        ),
        (
            r#""op":"update","key":"k","plan":"pro""#,
            Action::Update(update(Change::Set("pro".to_owned()))),
        ),
        (r#""op":"update","key":"k","plan":null"#, Action::Update(update(Change::Clear))),
        (
            r#""op":"create","key":"k","kind":"member","open":"free""#,
            Action::Create(Create { open: Some("free".to_owned()), ..member("k") }),
        ),
        (
            r#""op":"update","key":"k","open":"pro""#,
            Action::Update(Update { open: Change::Set("pro".to_owned()), ..update(Change::Keep) }),
        ),
        (
            r#""op":"update","key":"k","open":null"#,
            Action::Update(Update { open: Change::Clear, ..update(Change::Keep) }),
        ),
    ] {
        let (line, operation) = (format!(r#"{{"at":1,{line}}}"#), Operation { at: 1, action });
        assert_eq!(read(&line).unwrap(), operation);
        assert_eq!(operation.to_line(), line);
        assert!(operation.is_within_bounds());
    }
    let of_credits = r#"{"at":1,"op":"plan","plan":"p","global":{"limits":{"ever/credits":7}}}"#;
    let budget = r#"{"at":1,"op":"plan","plan":"p","global":{},"budget":7}"#;
    assert_eq!(read(of_credits).unwrap(), read(budget).unwrap());
    for line in [
        r#"{"at":1,"op":"plan","plan":"p","budget":9007199254740992}"#,
        r#"{"at":1,"op":"plan","plan":"p","parallel":9007199254740992}"#,
        r#"{"at":1,"op":"plan","plan":"p","thresholds":[0]}"#,
        r#"{"at":1,"op":"plan","plan":"p","assets":{"":{}}}"#,
        r#"{"at":1,"op":"plan","plan":"p","other":{"limits":{"day/tokens":9007199254740992}}}"#,
    ] {
        assert!(!read(line).unwrap().is_within_bounds(), "{line}");
    }
}

fn member(key: &str) -> Create {
    Create {
        key: key.to_owned(),
        kind: KeyKind::Member,
        plan: None,
        open: None,
        global: Limits::default(),
        parallel: None,
        assets: BTreeMap::new(),
        other: None,
        budget: None,
        expires_at: None,
        time_zone: TimeZone::UTC,
        thresholds: None,
        shadow: false,
    }
}

fn limits<const COUNT: usize>(limits: [((Window, Unit), u64); COUNT]) -> Limits {
    let amounts = limits.map(|(of, limit)| (of, Amount::Limited(limit)));
    Limits { amounts: amounts.into(), parallel: None }
}

fn requests_per_minute(limit: u64) -> Limits {
    limits([((Window::Minute, Unit::Requests), limit)])
}
