//! Threshold events at a webhook: signed, in order, sent again until they are accepted, and without delaying calls.

use std::io::Write;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use hmac::{Hmac, KeyInit, Mac};
use limiter_test_servers::until;
use serde_json::{Value, json};
use sha2::Sha256;

use crate::provider::read_request;
use crate::support::{Running, WEBHOOK_SECRET};

/// A webhook that answers each request as the test says.
struct Listener {
    address: SocketAddr,
    requests: Receiver<Request>,
}

/// One received request.
struct Request {
    head: String,
    body: String,
}

impl Listener {
    /// Starts a webhook with these answers, in this order; the last one is repeated. `None` never answers.
    fn answering(answers: &'static [Option<u16>]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        Self::on(listener, answers)
    }

    fn on(listener: TcpListener, answers: &'static [Option<u16>]) -> Self {
        let address = listener.local_addr().unwrap();
        let (tell, requests) = channel();
        thread::spawn(move || {
            let mut number = 0;
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                while let Some(request) = Request::read(&stream) {
                    let answer = answers[number.min(answers.len() - 1)];
                    number += 1;
                    if tell.send(request).is_err() {
                        return;
                    }
                    let Some(status) = answer else {
                        loop {
                            thread::park()
                        }
                    };
                    let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\n\r\n");
                    if stream.write_all(answer.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        Self { address, requests }
    }

    fn url(&self) -> String {
        format!("http://{}/hook", self.address)
    }

    fn next(&self) -> Request {
        self.requests.recv_timeout(Duration::from_secs(20)).expect("the webhook is called")
    }
}

impl Request {
    fn read(stream: &TcpStream) -> Option<Self> {
        let (head, body) = read_request(stream)?;
        Some(Self { head: head.to_lowercase(), body })
    }

    fn event(&self) -> Value {
        serde_json::from_str(&self.body).unwrap()
    }

    /// Checks the signature as a subscriber should: the time, and the code over the time and the body.
    fn assert_signed(&self) {
        let header = self.head.split("limiter-signature: ").nth(1).unwrap();
        let header = header.lines().next().unwrap();
        let (time, code) = header.split_once(",v1=").unwrap();
        let time = time.strip_prefix("t=").unwrap();
        let mut mac = Hmac::<Sha256>::new_from_slice(WEBHOOK_SECRET.as_bytes()).unwrap();
        mac.update(format!("{time}.{}", self.body).as_bytes());
        let expected = mac.finalize().into_bytes();
        let hex: String = expected.iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(code, hex);
    }
}

/// Starts a server with this webhook. Returns it, and the access key of a member with this many requests a day.
fn server(url: &str, rpd: u64, flags: &[&str]) -> (Running, String) {
    let server = Running::with(&[&["--webhook", url], flags].concat());
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": rpd}}));
    (server, key)
}

fn metrics(server: &Running) -> String {
    server.get("", "/metrics").text
}

fn call(server: &Running, key: &str) {
    assert_eq!(server.post(key, "/v1/check", &json!({})).status, 200);
}

#[test]
fn each_threshold_is_sent_once_and_signed() {
    let listener = Listener::answering(&[Some(204)]);
    for server in Running::on_each_store_with(&["--webhook", &listener.url()]) {
        let (id, key) = server.member("member", json!({"globalLimits": {"rpd": 5}}));
        for _ in 0..7 {
            call(&server, &key);
        }
        for (percent, used) in [(80, 4), (100, 5)] {
            let request = listener.next();
            request.assert_signed();
            let event = request.event();
            assert_eq!(event["type"], "threshold");
            assert_eq!((event["key"].as_str(), &event["percent"]), (Some(&*id), &json!(percent)));
            assert_eq!((&event["used"], &event["limit"]), (&json!(used), &json!(5)));
            assert_eq!(event["rule"], "global/day/requests");
            let message = event["message"].as_str().unwrap();
            assert!(message.contains(&format!("{percent} % of 5 requests per day")), "{message}");
            until("the log has it", || server.output().contains(message));
        }
        assert!(listener.requests.try_recv().is_err());
        assert!(server.stop().success());
    }
}

#[test]
fn an_event_that_is_not_accepted_is_sent_again_with_the_same_id_and_in_order() {
    let listener = Listener::answering(&[Some(500), Some(503), Some(200)]);
    let (server, key) = server(&listener.url(), 5, &[]);
    for _ in 0..5 {
        call(&server, &key);
    }
    let tries = [(); 4].map(|()| listener.next());
    tries.iter().for_each(Request::assert_signed);
    let events = tries.map(|request| request.event());
    assert_eq!(events[0], events[1]);
    assert_eq!(events[1], events[2]);
    assert_eq!((&events[2]["percent"], &events[3]["percent"]), (&json!(80), &json!(100)));
    assert_ne!(events[2]["id"], events[3]["id"]);
    until("it is counted", || {
        metrics(&server).contains("limiter_webhook_events_total{outcome=\"delivered\"} 2")
    });
    assert!(metrics(&server).contains("limiter_webhook_events_total{outcome=\"failed\"} 2"));
}

#[test]
fn a_permanently_refused_event_is_not_sent_again() {
    let listener = Listener::answering(&[Some(410), Some(200)]);
    let (server, key) = server(&listener.url(), 5, &[]);
    for _ in 0..5 {
        call(&server, &key);
    }
    let percents = [(); 2].map(|()| listener.next().event()["percent"].clone());
    assert_eq!(percents, [json!(80), json!(100)]);
    until("it is counted", || {
        metrics(&server).contains("limiter_webhook_events_total{outcome=\"refused\"} 1")
    });
}

/// The webhook accepts the connection and never answers: calls are not delayed.
#[test]
fn a_listener_that_never_answers_costs_no_call_anything() {
    let listener = Listener::answering(&[None]);
    let (server, key) = server(&listener.url(), 1_000, &["--thresholds", "1,2,3,4"]);
    call(&server, &key);
    let began = Instant::now();
    for _ in 0..200 {
        call(&server, &key);
    }
    let took = began.elapsed();
    assert_eq!(listener.next().event()["percent"], 1);
    assert!(
        took < Duration::from_secs(8),
        "200 calls took {took:?}; one try of the webhook takes 10 s"
    );
}

/// Up to the bound no event is lost while the webhook is away; events beyond it are counted as lost.
#[test]
fn queued_events_are_sent_when_the_webhook_is_back() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap();
    drop(taken);
    let url = format!("http://{address}/hook");
    let (server, key) = server(&url, 100, &["--thresholds", "1,2,3,4", "--max-events", "2"]);
    call(&server, &key);
    until("it is counted", || {
        metrics(&server).contains("limiter_webhook_events_total{outcome=\"failed\"}")
    });
    for _ in 0..3 {
        call(&server, &key);
    }
    until("it is counted", || {
        metrics(&server).contains("limiter_webhook_events_total{outcome=\"lost\"} 1")
    });
    until("the log says what is lost", || server.output().contains("the webhook's queue is full"));
    let listener = Listener::on(TcpListener::bind(address).unwrap(), &[Some(200)]);
    let told = [(); 3].map(|()| listener.next().event()["percent"].clone());
    assert_eq!(told, [json!(1), json!(2), json!(3)]);
}

/// One log line in ten seconds counts the lost or refused events.
#[test]
fn a_flood_of_lost_events_is_one_line_of_the_log() {
    let listener = Listener::answering(&[None]);
    let flags = ["--thresholds", "1,2,3,4", "--max-events", "1"];
    let (server, first) = server(&listener.url(), 100, &flags);
    let (_, second) = server.member("second", json!({"globalLimits": {"rpd": 100}}));
    for key in [&first, &second] {
        (0..4).for_each(|_| call(&server, key));
    }
    // One event is posted. One waits in the queue if the first was taken before the second came.
    until("the lost events are counted", || {
        let lost = |events| format!("limiter_webhook_events_total{{outcome=\"lost\"}} {events}");
        metrics(&server).contains(&lost(6)) || metrics(&server).contains(&lost(7))
    });
    until("the log reports lost events", || server.output().contains("events are lost"));
    assert_eq!(server.output().matches("events are lost").count(), 1);
}

#[test]
fn queued_events_are_sent_before_a_server_ends() {
    let listener = Listener::answering(&[Some(500), Some(200)]);
    let (server, key) = server(&listener.url(), 1, &[]);
    call(&server, &key);
    assert_eq!(listener.next().event()["percent"], 80);
    assert!(server.stop().success());
    let told = [(); 2].map(|()| listener.next().event()["percent"].clone());
    assert_eq!(told, [json!(80), json!(100)]);
}

#[test]
fn in_shadow_mode_what_would_be_denied_goes_on_and_is_flagged() {
    for server in Running::on_each_store_with(&["--shadow"]) {
        let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 1}}));
        call(&server, &key);
        let answer = server.post(&key, "/v1/check", &json!({})).body;
        assert_eq!(
            (&answer["outcome"], &answer["shadowed"]["reason"]),
            (&json!("allowed"), &json!("rate_limited"))
        );
        let reserved = server.post(&key, "/v1/reserve", &json!({})).body;
        assert_eq!(
            (&reserved["reservation"], &reserved["decision"]["outcome"]),
            (&Value::Null, &json!("allowed"))
        );
        assert_eq!(server.used_today(&key).0, 1);
    }
}
