//! Callers: the requests that each may send, and its progress as it knows it.

use std::collections::BTreeSet;
use std::fmt;

use limiter_core::{Charge, Credits};

/// A message to the server. Each caller has one id, so a repeated message is a retry.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Request {
    Check,
    Reserve,
    Amend,
    Settle(Actual),
    Cancel,
}

/// The actual cost of a call, compared with its estimate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Actual {
    Less,
    More,
}

/// An answer of the server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum Answer {
    Allowed,
    Replayed,
    Denied,
    Done,
    Refused,
}

/// The plan of a caller.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    /// Whether it calls the asset with limits, or none.
    pub(crate) asset: bool,
    pub(crate) estimate: Charge,
    pub(crate) raised: Charge,
    pub(crate) less: Charge,
    pub(crate) more: Charge,
    /// The requests that it may send.
    pub(crate) requests: &'static [Request],
}

impl Plan {
    /// Returns the first plans, one for each caller of a world.
    pub(crate) fn first(count: usize) -> Vec<Self> {
        let streaming = Self {
            asset: true,
            estimate: charge(1, 2, 3),
            raised: charge(1, 3, 4),
            less: charge(1, 0, 1),
            more: charge(0, 5, 5),
            requests: &[Request::Reserve, Request::Amend, Request::Settle(Actual::Less)],
        };
        let overrunning = Self {
            asset: false,
            estimate: charge(2, 1, 3),
            requests: &[Request::Reserve, Request::Settle(Actual::More), Request::Cancel],
            ..streaming.clone()
        };
        let checking =
            Self { estimate: charge(1, 1, 1), requests: &[Request::Check], ..streaming.clone() };
        let plans = [streaming, overrunning, checking];
        assert!(count <= plans.len(), "there are plans for {} callers", plans.len());
        plans.into_iter().take(count).collect()
    }

    /// Returns the cost of a call after this request.
    pub(crate) fn cost_after(&self, request: Request) -> Charge {
        match request {
            Request::Check | Request::Reserve => self.estimate,
            Request::Amend => self.raised,
            Request::Settle(Actual::Less) => self.less,
            Request::Settle(Actual::More) => self.more,
            Request::Cancel => Charge::request().with_requests(0).unwrap(),
        }
    }
}

/// A caller, and the network between it and the server.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Caller {
    pub(crate) at: At,
    /// Every message that it ever sent: each may arrive any number of times.
    pub(crate) sent: BTreeSet<Request>,
}

/// The progress of a caller as it knows it. One that dies for good takes no further step.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) enum At {
    #[default]
    Start,
    Waiting,
    Denied,
    Running,
    /// Running, according to a replay.
    Resumed,
    /// It sends its last message again until an answer comes.
    Ending,
}

impl Caller {
    /// Returns the requests that it may send now.
    pub(crate) fn sends(&self, plan: &Plan) -> impl Iterator<Item = Request> {
        plan.requests.iter().copied().filter(|request| match (self.at, request) {
            (At::Start | At::Denied, Request::Check | Request::Reserve) => true,
            // It stops waiting, and has made no call upstream.
            (At::Waiting, Request::Cancel) => true,
            (At::Running | At::Resumed, Request::Amend) => !self.sent.contains(request),
            (At::Running | At::Resumed, Request::Settle(_) | Request::Cancel) => true,
            _ => false,
        })
    }

    pub(crate) fn send(&mut self, request: Request) {
        self.sent.insert(request);
        self.at = match request {
            Request::Reserve => At::Waiting,
            Request::Amend => self.at,
            Request::Check | Request::Settle(_) | Request::Cancel => At::Ending,
        };
    }

    /// Returns whether the answer to this request changes its next step.
    pub(crate) fn waits_for(&self, request: Request) -> bool {
        self.at == At::Waiting && request == Request::Reserve
    }

    /// Takes the answer that it waits for.
    pub(crate) fn receive(&mut self, answer: Answer) {
        self.at = match answer {
            Answer::Allowed => At::Running,
            Answer::Replayed => At::Resumed,
            Answer::Denied | Answer::Refused | Answer::Done => At::Denied,
        };
    }

    pub(crate) fn may_crash(&self) -> bool {
        self.at != At::Start
    }

    /// Loses its memory and starts again. Its messages may still arrive.
    pub(crate) fn crash(&mut self) {
        self.at = At::Start;
    }
}

impl fmt::Display for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Check => "check",
            Self::Reserve => "reserve",
            Self::Amend => "amend",
            Self::Settle(Actual::Less) => "settle at less",
            Self::Settle(Actual::More) => "settle at more",
            Self::Cancel => "cancel",
        })
    }
}

fn charge(input: u64, output: u64, credits: u64) -> Charge {
    let credits = Credits::from_millionths(credits).unwrap();
    Charge::request().with_tokens(input, output).unwrap().with_credits(credits)
}
