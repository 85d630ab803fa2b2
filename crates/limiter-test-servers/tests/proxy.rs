//! The proxy in front of a server that echoes each request and counts what it has seen.

use std::io::{BufRead, BufReader, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::Duration;

use limiter_test_servers::{Port, Proxy, until};

#[test]
fn what_is_asked_is_answered() {
    let (proxy, executed) = echo();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "one"), Some("one".into()));
    assert_eq!(ask(&mut client, "two"), Some("two".into()));
    assert_eq!(executed.load(Ordering::SeqCst), 2);
    assert_eq!((proxy.requests(), proxy.executed()), (2, 2));
}

#[test]
fn a_lost_reply_was_executed() {
    let (proxy, executed) = echo();
    let mut client = connect(&proxy);
    proxy.lose_next_reply();
    assert_eq!(ask(&mut client, "lost"), None);
    assert_eq!(
        (executed.load(Ordering::SeqCst), proxy.executed(), proxy.replies_lost()),
        (1, 1, 1)
    );
    // One only: the next connection is served.
    assert_eq!(ask(&mut connect(&proxy), "next"), Some("next".into()));
}

#[test]
fn every_reply_can_be_lost_in_turn() {
    for lost in 0..4 {
        let (proxy, executed) = echo();
        let mut client = connect(&proxy);
        proxy.lose_reply_after(lost);
        for _ in 0..lost {
            assert_eq!(ask(&mut client, "kept"), Some("kept".into()));
        }
        assert_eq!(ask(&mut client, "lost"), None);
        assert_eq!(executed.load(Ordering::SeqCst), lost + 1);
    }
}

#[test]
fn of_a_pipeline_one_reply_is_lost() {
    let (proxy, _) = echo();
    let mut client = connect(&proxy);
    proxy.lose_reply_after(1);
    client.write_all(b"one\r\ntwo\r\nthree\r\n").unwrap();
    let mut answers = String::new();
    client.read_to_string(&mut answers).unwrap();
    assert_eq!(answers, "one\r\n");
}

#[test]
fn a_cut_request_is_not_executed() {
    let (proxy, executed) = echo();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "one"), Some("one".into()));
    proxy.cut_before_request();
    assert_eq!(ask(&mut client, "two"), None);
    assert_eq!(
        (executed.load(Ordering::SeqCst), proxy.requests(), proxy.requests_cut()),
        (1, 1, 1)
    );
}

#[test]
fn held_replies_come_when_they_are_released() {
    let (proxy, executed) = echo();
    let mut client = connect(&proxy);
    proxy.hold_replies();
    client.write_all(b"held\r\n").unwrap();
    proxy.wait_until_executed(1);
    assert_eq!(executed.load(Ordering::SeqCst), 1);
    client.set_read_timeout(Some(Duration::from_millis(100))).unwrap();
    assert_eq!(client.read(&mut [0]).unwrap_err().kind(), ErrorKind::WouldBlock);
    client.set_read_timeout(Some(PATIENCE)).unwrap();
    proxy.release();
    assert_eq!(answer(&mut client), Some("held".into()));
}

#[test]
fn introductions_do_not_count() {
    let (proxy, _) = echo();
    let mut client = connect(&proxy);
    proxy.lose_next_reply();
    assert_eq!(ask(&mut client, "CLIENT SETINFO"), Some("CLIENT SETINFO".into()));
    assert_eq!(ask(&mut client, "GET"), None);
}

#[test]
fn other_commands_than_those_named_do_not_count() {
    let (proxy, _) = echo();
    let mut client = connect(&proxy);
    proxy.count_only(&["evalsha"]);
    proxy.lose_next_reply();
    assert_eq!(ask(&mut client, "GET"), Some("GET".into()));
    assert_eq!(ask(&mut client, "EVALSHA"), None);
    assert_eq!((proxy.requests(), proxy.executed()), (1, 1));
}

#[test]
fn forward_forgets_the_harm() {
    let (proxy, _) = echo();
    let mut client = connect(&proxy);
    proxy.lose_next_reply();
    proxy.cut_before_request();
    proxy.hold_replies();
    proxy.forward();
    assert_eq!(ask(&mut client, "one"), Some("one".into()));
}

#[test]
fn connections_are_closed_and_new_ones_are_accepted() {
    let (proxy, _) = echo();
    let (mut open, mut held) = (connect(&proxy), connect(&proxy));
    assert_eq!(ask(&mut open, "one"), Some("one".into()));
    proxy.hold_replies();
    held.write_all(b"held\r\n").unwrap();
    proxy.wait_until_executed(2);
    proxy.close_connections();
    assert_eq!((answer(&mut open), answer(&mut held)), (None, None));
    proxy.release();
    assert_eq!(ask(&mut connect(&proxy), "two"), Some("two".into()));
}

#[test]
fn a_dropped_proxy_closes_its_connections() {
    let (proxy, _) = echo();
    let mut client = connect(&proxy);
    assert_eq!(ask(&mut client, "one"), Some("one".into()));
    let address = address(&proxy);
    drop(proxy);
    assert_eq!(answer(&mut client), None);
    assert!(TcpStream::connect(address).is_err());
}

#[test]
fn without_a_server_connections_are_closed() {
    let port = Port::take();
    let proxy = Proxy::to(&format!("127.0.0.1:{}", port.number()));
    assert_eq!(ask(&mut connect(&proxy), "one"), None);
}

/// The server sends each of these and then another reply, which is lost: the client gets all of the first, and no more.
#[test]
fn a_reply_ends_where_it_says() {
    for (frame, replies) in [
        ("+OK\r\n", 1),
        ("-ERR no\r\n", 1),
        (":1\r\n", 1),
        ("$5\r\na\r\nbc\r\n", 1),
        ("$0\r\n\r\n", 1),
        ("$-1\r\n", 1),
        ("*-1\r\n", 1),
        ("*0\r\n", 1),
        ("*2\r\n$4\r\nECHO\r\n$1\r\nx\r\n", 1),
        ("*2\r\n*1\r\n:1\r\n$-1\r\n", 1),
        ("%1\r\n+a\r\n:1\r\n", 1),
        (">2\r\n+invalidate\r\n*0\r\n", 0),
        ("|1\r\n+ttl\r\n:1\r\n+OK\r\n", 1),
        ("_\r\n", 1),
        ("PING\r\n", 1),
    ] {
        let proxy = replying(format!("{frame}+OK\r\n"));
        proxy.lose_reply_after(replies);
        assert_eq!(all_replies(&proxy), frame);
        assert_eq!(proxy.executed(), replies + 1, "{frame:?}");
        for end in 0..frame.len() {
            let proxy = replying(frame[..end].to_owned());
            assert_eq!(all_replies(&proxy), "", "{:?} is not whole", &frame[..end]);
        }
    }
}

#[test]
fn a_request_names_its_command() {
    let (proxy, executed) = echo();
    proxy.count_only(&["echo"]);
    let mut client = connect(&proxy);
    for (request, lines, counted) in [
        ("*2\r\n$4\r\necho\r\n$1\r\nx\r\n", 5, 1),
        ("ping\r\n", 1, 1),
        ("*0\r\n", 1, 1),
        ("Echo x\r\n", 1, 2),
    ] {
        let before = executed.load(Ordering::SeqCst);
        client.write_all(request.as_bytes()).unwrap();
        until("the request is there", || executed.load(Ordering::SeqCst) == before + lines);
        assert_eq!(proxy.requests(), counted, "{request:?}");
    }
}

/// A proxy to a server that sends these bytes after two requests, and closes the connection.
fn replying(bytes: String) -> Proxy {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&listener.local_addr().unwrap().to_string());
    thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        stream.read_exact(&mut [0; REQUESTS.len()]).unwrap();
        stream.write_all(bytes.as_bytes()).unwrap();
    });
    proxy
}

/// All that a client gets for two requests.
fn all_replies(proxy: &Proxy) -> String {
    let (mut client, mut replies) = (connect(proxy), String::new());
    client.write_all(REQUESTS).unwrap();
    client.read_to_string(&mut replies).unwrap();
    replies
}

/// A proxy to a server that echoes lines, and how many it has seen.
fn echo() -> (Proxy, Arc<AtomicU64>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let proxy = Proxy::to(&listener.local_addr().unwrap().to_string());
    let seen = Arc::new(AtomicU64::new(0));
    let count = Arc::clone(&seen);
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (mut stream, count) = (stream.unwrap(), Arc::clone(&count));
            thread::spawn(move || {
                for line in BufReader::new(stream.try_clone().unwrap()).lines() {
                    let Ok(line) = line else { return };
                    count.fetch_add(1, Ordering::SeqCst);
                    let _ = stream.write_all(format!("{line}\r\n").as_bytes());
                }
            });
        }
    });
    (proxy, seen)
}

fn address(proxy: &Proxy) -> String {
    proxy.url().replace("redis://", "")
}

fn connect(proxy: &Proxy) -> TcpStream {
    let stream = TcpStream::connect(address(proxy)).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream
}

fn ask(client: &mut TcpStream, line: &str) -> Option<String> {
    // It fails on a connection that is closed already, as reading does.
    let _ = client.write_all(format!("{line}\r\n").as_bytes());
    answer(client)
}

/// The next line, or nothing if the connection is closed. Byte by byte, so that nothing is read ahead.
fn answer(client: &mut TcpStream) -> Option<String> {
    let mut line = Vec::new();
    let mut byte = [0];
    while byte != *b"\n" {
        match client.read(&mut byte) {
            Ok(1) => line.push(byte[0]),
            Ok(_) => return None,
            Err(error) if error.kind() == ErrorKind::WouldBlock => panic!("no answer"),
            Err(_) => return None,
        }
    }
    Some(String::from_utf8(line).unwrap().trim_end().to_owned())
}

const PATIENCE: Duration = Duration::from_secs(10);
const REQUESTS: &[u8] = b"one\r\ntwo\r\n";
