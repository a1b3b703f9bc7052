//! What strangers send: every case closes and counts at most that connection, holds a bounded amount of memory,
//! and leaves the node answering.

use std::sync::atomic::Ordering;

use bytes::BytesMut;

use super::*;
use crate::api::IfNotLeading;
use crate::base::Random;
use crate::base::limits::FRAME_BYTES_MAX;
use crate::wire;

#[test]
fn the_first_byte_decides_and_every_byte_has_one_decision() {
    let node = Node::with_store(NetLimits::default());
    let mut open = 0;
    for first in 0..=255u8 {
        let mut client = node.connect();
        client.write([first]);
        match first {
            0 | 1 | b'\r' | b'\n' | b' '..=b')' | b'+'..=b'~' => {
                client.end();
                let answer = client.rest_text();
                let is_line = first > b' ';
                assert_eq!(answer.starts_with("ERR "), is_line, "{first:#x}: {answer:?}");
                open += 1;
            }
            b'*' => assert!(client.rest_text().contains("does not speak RESP")),
            _ => assert_eq!(client.rest(), b"", "{first:#x}"),
        }
    }
    assert_eq!(open, 2 + 2 + 94);
    assert_eq!(node.counters.closed(CloseReason::ReservedProtocol), 2);
    assert_eq!(node.counters.closed(CloseReason::UnknownProtocol), 256 - open - 2);
}

#[test]
fn a_frame_that_is_none_is_told_why_and_closes_the_connection() {
    let node = Node::with_store(NetLimits::default());
    let frame_max = u32::try_from(FRAME_BYTES_MAX).unwrap();
    let mut asked = BytesMut::new();
    wire::encode_request(7, &Request::Get { key: "a".into(), revision: None }, IfNotLeading::Forward, &mut asked);
    for (bad, why) in [
        (&[0; 4][..], "announces 0 bytes"),
        (&(frame_max + 1).to_be_bytes(), "the limit is 16777216"),
        (&0x01ff_ffff_u32.to_be_bytes(), "announces 33554431 bytes"),
        (b"\0\0\0\x03\xff\xff\xff", "failed to decode"),
    ] {
        for before in [&b""[..], &asked] {
            let mut client = node.connect();
            client.write([before, bad, &asked].concat());
            if !before.is_empty() {
                assert_eq!(wire::decode_reply(client.frame()).unwrap().0, 7, "what was asked before is answered");
            }
            let (id, reply) = wire::decode_reply(client.frame()).unwrap();
            let error = reply.result.unwrap_err();
            assert_eq!((id, error.code), (0, ErrorCode::BadFrame));
            assert!(error.message.contains(why), "{error}");
            assert_eq!(client.rest(), b"", "nothing behind it is asked");
        }
    }
    let mut probe = node.connect();
    node.await_count(&mut probe, "the ends of all", |counters| counters.closed(CloseReason::BadFrame) == 8);
}

#[test]
fn a_length_that_is_no_protocol_is_closed_without_an_answer() {
    let node = Node::with_store(NetLimits::default());
    for length in [1 << 31, u32::MAX] {
        let mut client = node.connect();
        client.write(length.to_be_bytes());
        assert_eq!(client.rest(), b"", "length {length}");
    }
    assert_eq!(node.counters.closed(CloseReason::UnknownProtocol), 2);
    node.assert_alive();
}

#[test]
fn noise_behind_any_first_byte_is_closed_or_answered() {
    let node = Node::with_store(NetLimits::default());
    for seed in 0..200 {
        let mut random = Random::new(seed);
        let length = 1 + random.below(3000) as usize;
        let mut noise: Vec<u8> = (0..length).map(|_| random.next() as u8).collect();
        noise[0] = [0, 0, b'P', b' '][random.below(4) as usize];
        if noise[0] == 0 && noise.len() > 8 {
            // A length that is complete, so that its content is decoded.
            let length = random.below(noise.len() as u64 - 4) as u8;
            noise[1..4].copy_from_slice(&[0, 0, length]);
        }
        let mut client = node.connect();
        // The node may close before it has all of it.
        let _ = client.0.write_all(&noise);
        let _ = client.0.shutdown(Shutdown::Write);
        client.rest();
    }
    node.assert_alive();
}

#[test]
fn a_frame_that_never_ends_has_a_deadline() {
    let short = Duration::from_millis(50);
    let limits = NetLimits { frame_deadline: short, hello_deadline: short, ..NetLimits::default() };
    let node = Node::with_store(limits);
    for begun in [&b"\0"[..], b"\0\0\0\x10abc", b"\x01\0\0\0abc", b"PUT a"] {
        let mut client = node.connect();
        client.write(begun);
        assert_eq!(client.rest(), b"", "{begun:?}");
    }
    assert_eq!(node.counters.closed(CloseReason::TooSlow), 4);
}

#[test]
fn a_slow_sender_has_no_longer_than_the_deadline_however_often_it_sends() {
    let node = Node::with_store(NetLimits { frame_deadline: Duration::from_millis(100), ..NetLimits::default() });
    let mut client = node.connect();
    let begun = Instant::now();
    while client.0.write_all(b"x").is_ok() {
        assert!(begun.elapsed() < DEADLINE);
        node.assert_alive();
    }
    assert_eq!(node.counters.closed(CloseReason::TooSlow), 1);
}

#[test]
fn announcing_large_frames_costs_nothing() {
    let node = Node::with_store(NetLimits::default());
    let mut crowd: Vec<Client> = (0..500).map(|_| node.connect()).collect();
    for client in &mut crowd {
        client.write([&0x0100_0000u32.to_be_bytes()[..], &[7; 100]].concat());
    }
    let mut probe = node.connect();
    node.await_count(&mut probe, "500 beginnings", |counters| {
        counters.buffered_bytes.load(Ordering::Relaxed) >= 500 * 104
    });
    let peak = node.counters.buffered_bytes_peak.load(Ordering::Relaxed);
    assert!(peak <= 500 * 4096, "{peak} bytes are held for 500 announcements");
}

/// `count` clients send the beginning of a frame each, as far as they are read, up to `bytes` of it; what all hold at most.
fn peak_of_half_frames(bound: usize, count: usize, bytes: usize) -> usize {
    let limits = NetLimits {
        buffered_bytes_max: bound,
        frame_deadline: Duration::from_millis(200),
        jam_deadline: Duration::from_secs(3600),
        ..NetLimits::default()
    };
    let node = Node::with_store(limits);
    let senders: Vec<_> = (0..count)
        .map(|_| {
            let mut client = node.connect();
            thread::spawn(move || {
                // A frame of 16 MiB that never ends; each write blocks once its client is not read.
                client.write([0x01, 0, 0, 0]);
                let mut sent = 0;
                while sent < bytes && client.0.write_all(&[7; 8 * 1024]).is_ok() {
                    sent += 8 * 1024;
                }
                client.rest();
            })
        })
        .collect();
    senders.into_iter().for_each(|sender| sender.join().unwrap());
    let mut probe = node.connect();
    node.await_count(&mut probe, "all ends", |counters| counters.closed(CloseReason::TooSlow) == count as u64);
    node.counters.buffered_bytes_peak.load(Ordering::Relaxed)
}

#[test]
fn near_the_bound_of_all_bytes_who_holds_much_is_not_read_and_the_deadline_frees_the_memory() {
    let bound = 8 * 1024 * 1024;
    let peak = peak_of_half_frames(bound, 16, usize::MAX);
    // One growth beyond what is for those that hold much: a doubling of the largest buffer that fits it.
    assert!((bound / 4 * 3..=2 * bound).contains(&peak), "{peak} bytes");
}

#[test]
fn above_the_bound_of_all_bytes_no_client_is_read() {
    let bound = 1024 * 1024;
    // Each holds little, and all together twice the bound.
    let peak = peak_of_half_frames(bound, 64, 32 * 1024);
    assert!((bound..=bound + 128 * 1024).contains(&peak), "{peak} bytes");
}

#[test]
fn a_client_that_does_not_read_is_paused_and_then_dropped() {
    let limits = NetLimits {
        connection_buffered_bytes_max: 2 * 1024 * 1024,
        write_deadline: Duration::from_millis(300),
        ..NetLimits::default()
    };
    let node = Node::with_store(limits);
    let mut client = node.connect();
    socket2::SockRef::from(&client.0).set_recv_buffer_size(1).unwrap();
    assert_eq!(client.ask(&format!("PUT a {}", "x".repeat(500_000))), "OK");
    client.0.set_nonblocking(true).unwrap();
    let mut probe = node.connect();
    node.await_count(&mut probe, "dropping it", |counters| {
        while client.0.write(b"GET a\nGET a\nGET a\nGET a\n").is_ok() {}
        counters.closed(CloseReason::Unread) == 1
    });
    let peak = node.counters.buffered_bytes_peak.load(Ordering::Relaxed);
    assert!(peak <= 4 * 2 * 1024 * 1024, "{peak} bytes are held for one slow reader");
}

/// It has sent half a frame, as far as it is read.
fn hoarder(node: &Node) -> Client {
    let mut client = node.connect();
    client.0.set_nonblocking(true).unwrap();
    let _ = client.0.write(&[1, 0, 0, 0]);
    while client.0.write(&[7; 64 * 1024]).is_ok() {}
    client
}

#[test]
fn those_who_hold_the_memory_make_way_for_the_others() {
    let limits = NetLimits {
        buffered_bytes_max: 4 * 1024 * 1024,
        write_deadline: Duration::from_secs(3600),
        ..NetLimits::default()
    };
    let node = Node::with_store(limits);
    let mut honest = node.connect();
    let hoarders: Vec<_> = (0..8).map(|_| hoarder(&node)).collect();
    node.await_count(&mut honest, "a jam's end", |counters| counters.closed(CloseReason::Jam) > 0);
    assert_eq!(honest.ask("GET absent"), "(nil)");
    drop(hoarders);
}

/// Those who hold it are never dropped here, and the others are answered all the same.
#[test]
fn who_holds_little_is_read_while_others_hold_the_memory() {
    let limits = NetLimits {
        buffered_bytes_max: 16 * 1024 * 1024,
        connection_buffered_bytes_max: 1024 * 1024,
        jam_deadline: Duration::from_secs(3600),
        write_deadline: Duration::from_secs(3600),
        ..NetLimits::default()
    };
    let scarce_from = limits.scarce_from_bytes();
    let node = Node::with_store(limits);
    let mut honest = node.connect();
    assert_eq!(honest.ask(&format!("PUT a {}", "x".repeat(500_000))), "OK");
    let hoard = || {
        let mut client = node.connect();
        socket2::SockRef::from(&client.0).set_recv_buffer_size(1).unwrap();
        client.write("GET a\n".repeat(64));
        client
    };
    let (mut hoarders, mut refused) = (Vec::new(), 0);
    while refused < 5 {
        assert!(hoarders.len() < 1000, "a large answer is kept for everybody");
        hoarders.push(hoard());
        assert_eq!(honest.ask("GET absent"), "(nil)");
        let mut new = node.connect();
        assert_eq!(new.ask("GET absent"), "(nil)");
        refused += usize::from(new.ask("GET a").starts_with("ERR busy "));
    }
    let peak = node.counters.buffered_bytes_peak.load(Ordering::Relaxed);
    // What was kept up to seven eighths is encoded later.
    assert!((scarce_from..=24 * 1024 * 1024).contains(&peak), "{peak} bytes, with {} hoarders", hoarders.len());
}

#[test]
fn a_web_page_runs_nothing() {
    let node = Node::alone(NetLimits::default());
    let mut page = node.connect();
    page.write("POST / HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Length: 20\r\n\r\nPUT a 1\r\nPUT b 1\r\n");
    assert_eq!(page.rest(), b"");
    assert_eq!(node.counters.closed(CloseReason::Http), 1);
    node.assert_alive();
    assert!(node.from_net.is_empty(), "something of it ran");
}

#[test]
fn a_line_that_is_too_long_is_told_so_even_while_it_is_still_being_sent() {
    let node = Node::with_store(NetLimits::default());
    let mut client = node.connect();
    let mut writer = Client(client.0.try_clone().unwrap());
    let sender = thread::spawn(move || while writer.0.write_all(&[b'x'; 64 * 1024]).is_ok() {});
    assert!(client.line().starts_with("ERR line_too_long "));
    client.rest();
    sender.join().unwrap();
    node.assert_alive();
}

#[test]
fn a_last_answer_is_not_lost_to_a_reset_by_what_the_client_still_sends() {
    let node = Node::with_store(NetLimits::default());
    let mut client = node.connect();
    client.write([&b"PUT a 1\nQUIT\n"[..], &[b'x'; 1_000_000]].concat());
    client.end();
    let mut answers = Vec::new();
    client.0.read_to_end(&mut answers).expect("an end, not a reset");
    assert_eq!(answers, b"OK\n");
}

/// The limit on descriptors is the process's, so this test runs in one of its own: this test, run again.
#[test]
fn without_descriptors_accepting_pauses_and_does_not_spin() {
    const CHILD: &str = "RAFTKV_TEST_OUT_OF_DESCRIPTORS";
    if std::env::var_os(CHILD).is_none() {
        let name = "net::tests::hostile::without_descriptors_accepting_pauses_and_does_not_spin";
        let mut child = std::process::Command::new(std::env::current_exe().unwrap());
        let output = child.args(["--exact", name]).env(CHILD, "1").output().unwrap();
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && text.contains("1 passed"), "{text}");
        return;
    }
    let node = Node::with_store(NetLimits { accept_retry: Duration::from_secs(3600), ..NetLimits::default() });
    let mut first = node.connect();
    let mut waiting = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None).unwrap();
    assert_eq!(first.ask("PING"), "PONG");
    let mut fillers = Vec::new();
    let limit = rustix::process::Rlimit { current: Some(64), maximum: Some(64) };
    rustix::process::setrlimit(rustix::process::Resource::Nofile, limit).unwrap();
    while let Ok(file) = std::fs::File::open("/dev/null") {
        fillers.push(file);
    }
    waiting.connect(&node.address.into()).unwrap();
    waiting.set_read_timeout(Some(DEADLINE)).unwrap();
    waiting.write_all(b"PING\n").unwrap();
    node.await_count(&mut first, "a pause", |counters| counters.accept_pauses.load(Ordering::Relaxed) >= 1);
    for _ in 0..50 {
        assert_eq!(first.ask("PING"), "PONG");
    }
    let tries = node.counters.accept_pauses.load(Ordering::Relaxed);
    assert_eq!(tries, 1, "it was tried again although nothing had closed");
    // A connection that closes here gives its descriptors back, the test's and the node's.
    drop(first);
    let mut answer = [0; 5];
    waiting.read_exact(&mut answer).unwrap();
    assert_eq!(&answer, b"PONG\n");
}
