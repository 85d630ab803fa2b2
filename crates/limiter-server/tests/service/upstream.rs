//! Models that run elsewhere: forwarded, streamed, settled.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::thread;

use serde_json::{Value, json};

use crate::support::{Folder, Running, until};

/// A provider that answers each run with what the test says, piece by piece.
struct Provider {
    url: String,
    /// What came in: the headers and the body of each run.
    received: Receiver<String>,
    /// The next piece of the answer; the end of the channel ends it.
    pieces: Sender<Option<String>>,
}

impl Provider {
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/run", listener.local_addr().unwrap());
        let (tell, received) = channel();
        let (pieces, next) = channel::<Option<String>>();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                tell.send(read_request(&stream)).ok();
                while let Ok(Some(piece)) = next.recv() {
                    if stream.write_all(piece.as_bytes()).is_err() {
                        break;
                    }
                }
            }
        });
        Self { url, received, pieces }
    }

    fn say(&self, piece: &str) {
        self.pieces.send(Some(piece.to_owned())).unwrap();
    }

    /// Ends this answer, and closes its connection.
    fn hang_up(&self) {
        self.pieces.send(None).unwrap();
    }
}

fn read_request(stream: &TcpStream) -> String {
    let mut reader = BufReader::new(stream);
    let mut text = String::new();
    while !text.ends_with("\r\n\r\n") && reader.read_line(&mut text).unwrap_or(0) > 0 {}
    let length = text
        .to_lowercase()
        .split("content-length: ")
        .nth(1)
        .and_then(|rest| rest.lines().next()?.parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).unwrap();
    text + &String::from_utf8(body).unwrap()
}

/// A server with one model, `far/away`, which is held by 10 output tokens and costs 1,000 millionths a thousand.
fn server(folder: &Folder, upstream: &str) -> Running {
    let config = format!(
        "[[models]]\nid = \"far\"\npath = \"far/away\"\nupstream = \"{upstream}\"\nexpected_output_tokens = 10\n\
         price = {{ run = 5, input = 1000, output = 1000 }}\n"
    );
    let path = folder.file("config.toml");
    fs::write(&path, config).unwrap();
    Running::with(&["--config", path.to_str().unwrap()])
}

const STREAM_HEAD: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn stream_run(server: &Running, key: &str) -> TcpStream {
    let mut stream = TcpStream::connect(server.address()).unwrap();
    let body = r#"{"text":"Hi","options":{"stream":true}}"#;
    let request = format!(
        "POST /api/v2/execute/far HTTP/1.1\r\nhost: x\r\nx-api-key: {key}\r\nconnection: close\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).unwrap();
    stream
}

fn usage(server: &Running, key: &str) -> (u64, u64, u64) {
    let usage = server.get(key, "/v1/usage").body;
    let figure = |value: &Value| value.as_u64().unwrap();
    let day = &usage["global"]["day"];
    (
        figure(&day["requests"]["used"]),
        figure(&day["tokens"]["used"]),
        figure(&usage["credits"]["spent"]),
    )
}

#[test]
fn a_run_is_forwarded_and_settled_by_the_usage_of_its_answer() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let answer = json!({"choices": [{"message": {"content": "Hi!"}}], "usage": {"prompt_tokens": 3, "completion_tokens": 4}});
    let answer = answer.to_string();
    provider.say(&format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{answer}",
        answer.len()
    ));
    provider.hang_up();
    let answer =
        server.post(&key, "/api/v2/execute/far%2Faway", &json!({"text": "Hi", "temperature": 0.5}));
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body["data"], json!("Hi!"));
    assert_eq!(
        (&answer.body["status"], &answer.body["completed"]),
        (&json!("SUCCESS"), &json!(true))
    );
    assert_eq!(answer.body["usedCredits"], json!(0.000012));
    assert_eq!(
        usage(&server, &key),
        (1, 7, 12),
        "5 millionths for the run, and one for each token"
    );
    let received = provider.received.recv().unwrap();
    assert!(
        received.ends_with(r#"{"text":"Hi","temperature":0.5}"#)
            || received.contains("temperature"),
        "{received}"
    );
    assert!(
        !received.contains(&key),
        "the key of the client is nobody else's business: {received}"
    );
}

#[test]
fn a_stream_is_passed_on_as_it_comes_and_settled_when_it_ends() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: {\"choices\":[{\"delta\":{\"content\":\"first\"}}]}\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let (requests, held, _) = usage(&server, &key);
    assert_eq!(requests, 1);
    assert!(held > 10, "the estimate is held meanwhile: {held}");
    provider.say("data: {\"choices\":[],\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
    provider.hang_up();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("[DONE]"), "{seen}");
    assert_eq!(usage(&server, &key), (1, 5, 10), "settled before the client saw the end");
}

#[test]
fn a_client_that_goes_away_in_the_middle_is_charged_what_came_until_then() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: {\"choices\":[{\"delta\":{\"content\":\"first\"}}]}\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    let (_, held, _) = usage(&server, &key);
    drop(client);
    // Settled without the client, at the latest when the provider goes on: nine of the ten tokens are given back.
    until("it is settled", || {
        provider.pieces.send(Some(": still here\n\n".to_owned())).unwrap();
        usage(&server, &key).1 < held
    });
    let (requests, tokens, _) = usage(&server, &key);
    assert_eq!((requests, tokens), (1, held - 9));
    assert!(server.stop().success(), "nothing is left to wait for");
}

#[test]
fn a_stream_that_breaks_off_is_cut_off_too_and_charged_what_came() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = stream_run(&server, &key);
    provider.say(
        "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n",
    );
    provider.say("10\r\n: no end of it \n\r\n");
    let mut seen = Vec::new();
    let mut piece = [0; 4_096];
    while !seen.windows(3).any(|text| text == b"end") {
        let length = client.read(&mut piece).unwrap();
        assert!(length > 0, "{}", String::from_utf8_lossy(&seen));
        seen.extend_from_slice(&piece[..length]);
    }
    let (_, held, _) = usage(&server, &key);
    provider.hang_up();
    // The end of the chunks is missing, so that the client knows.
    let _ = client.read_to_end(&mut seen);
    assert!(!seen.ends_with(b"0\r\n\r\n"), "{}", String::from_utf8_lossy(&seen));
    until("it is settled", || usage(&server, &key).1 == held - 10);
}

#[test]
fn a_run_that_the_provider_refuses_costs_nothing() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    provider.say("HTTP/1.1 429 Too Many Requests\r\ncontent-length: 0\r\n\r\n");
    provider.hang_up();
    let refused = server.post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}));
    assert!(refused.assert_refused_on_the_wire(502).contains("429"), "{refused:?}");
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn a_provider_that_is_not_there_costs_nothing() {
    let folder = Folder::new();
    let server = server(&folder, "http://127.0.0.1:1/run");
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    server
        .post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}))
        .assert_refused_on_the_wire(502);
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn a_run_whose_estimate_never_fits_is_not_forwarded() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"tpd": 2}}));
    server
        .post(&key, "/api/v2/execute/far", &json!({"text": "Hi"}))
        .assert_refused_on_the_wire(429);
    assert!(provider.received.try_recv().is_err());
    assert_eq!(usage(&server, &key), (0, 0, 0));
}

#[test]
fn sigterm_waits_for_a_stream_to_end() {
    let (folder, provider) = (Folder::new(), Provider::start());
    let mut server = server(&folder, &provider.url);
    let (_, key) = server.member("member", json!({"globalLimits": {"rpd": 10}}));
    let mut client = BufReader::new(stream_run(&server, &key));
    provider.say(STREAM_HEAD);
    provider.say("data: first\n\n");
    let mut seen = String::new();
    while !seen.contains("first") {
        assert!(client.read_line(&mut seen).unwrap() > 0, "{seen}");
    }
    server.signal(nix::sys::signal::Signal::SIGTERM);
    provider
        .say("data: {\"usage\":{\"prompt_tokens\":2,\"completion_tokens\":3}}\n\ndata: [DONE]\n\n");
    provider.hang_up();
    client.read_to_string(&mut seen).unwrap();
    assert!(seen.contains("[DONE]"), "{seen}");
    assert!(server.ended().success());
    assert!(!server.output().contains("not everything ended"), "{}", server.output());
}
