//! Answers that come over the queue are pushed to the gateway: nobody asks for them again and again.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use cerbas::Running;
use cerbas::broker::ScratchRedis;
use redis::{Connection, cmd};
use serde_json::{Value, json};

use super::gateway::{Gate, ask, daemon};
use super::world::{PATIENCE, Wire, connect, eventually, scratch};

/// So many clients wait for a change at once.
const POLLS: usize = 1000;

/// A client that has asked for a change, and waits.
fn poll(running: &Running, location: &str) -> TcpStream {
    let mut stream = TcpStream::connect(running.http_addresses()[0]).expect("somebody listens");
    let request = format!("GET {location}?wait=60s HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).expect("it is open");
    stream.set_read_timeout(Some(PATIENCE)).expect("it is open");
    stream
}

/// What it is told, with this status.
fn told_as(status: u16, stream: TcpStream) -> Value {
    let mut answer = BufReader::new(stream);
    let mut line = String::new();
    answer.read_line(&mut line).expect("an answer comes");
    assert!(line.starts_with(&format!("HTTP/1.1 {status} ")), "{line}");
    let mut rest = String::new();
    answer.read_to_string(&mut rest).expect("it is text");
    let body = rest.split("\r\n\r\n").nth(1).expect("it has a body");
    serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {body}"))
}

fn told(stream: TcpStream) -> Value {
    told_as(200, stream)
}

/// How many channels are listened to.
fn channels(connection: &mut Connection) -> usize {
    let channels: Vec<String> =
        cmd("PUBSUB").arg("CHANNELS").arg("CERBAS-STAGE-*").query(connection).expect("it answers");
    channels.len()
}

/// How often each command was done since that was reset.
fn commands(connection: &mut Connection) -> Vec<(String, u64)> {
    let stats: String = cmd("INFO").arg("commandstats").query(connection).expect("it answers");
    let count = |line: &str| {
        let (name, rest) = line.strip_prefix("cmdstat_")?.split_once(":calls=")?;
        Some((name.to_owned(), rest.split(',').next()?.parse().ok()?))
    };
    stats.lines().filter_map(count).collect()
}

#[test]
fn a_thousand_clients_that_wait_for_a_change_cost_redis_nothing_and_each_is_told_when_it_comes() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |config| {
        let limits = &mut config.http.as_mut().expect("it has a gateway").settings.limits;
        (limits.max_connections, limits.max_calls) = (2 * POLLS, 2 * POLLS);
        config.server.lease = Duration::from_secs(1);
    });
    let work = |number: usize| ask(&running, "/api/work", Some(json!({"func": "held", "args": {"n": number}}))).1;
    let locations: Vec<String> = (0..POLLS).map(|number| work(number).expect("it was accepted")).collect();
    let mut connection = connect(&redis.url()).expect("Redis is there");
    eventually("all workers are busy", || running.pool().idle == 0);
    let mut polls = Vec::new();
    for some in locations.chunks(100) {
        polls.extend(some.iter().map(|location| poll(&running, location)));
        // And one that the gateway is woken by.
        eventually("all wait", || channels(&mut connection) == polls.len() + 1);
    }

    let beats = |commands: &[(String, u64)]| {
        let of = |name: &str| commands.iter().find(|(other, _)| other == name).map_or(0, |(_, count)| *count);
        of("zadd").max(of("set"))
    };
    // The last of them is still looked for.
    for _ in 0..2 {
        cmd("CONFIG").arg("RESETSTAT").exec(&mut connection).expect("it answers");
        eventually("the heart has beaten a few times", || beats(&commands(&mut connection)) >= 5);
    }
    let ours = ["mget", "subscribe", "unsubscribe", "publish", "ping"];
    let spent = commands(&mut connection).into_iter().filter(|(name, _)| ours.contains(&&**name));
    // Now and then Redis has to confirm one subscription, however many there are.
    let spent: u64 = spent.map(|(_, count)| count).sum();
    assert!(spent <= 2, "{spent} commands");

    gate.open();
    for (number, stream) in polls.into_iter().enumerate() {
        let state = told(stream);
        let is_done = state == json!({"status": "done", "value": {"n": number}});
        assert!(is_done || state == json!({"status": "pending"}), "{state}");
    }
    // The next one who comes to wait ends what nobody waits for any more.
    ask(&running, &format!("{}?wait=1s", locations[0]), None);
}

/// Ends the connections that listen.
fn cut(redis: &ScratchRedis) {
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let cut: u64 = cmd("CLIENT").arg("KILL").arg("TYPE").arg("pubsub").query(&mut connection).expect("it answers");
    assert!(cut > 0, "somebody listened");
}

#[test]
fn an_answer_is_heard_also_where_the_connection_that_listens_was_lost_before_it_came() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let request = json!({"request": {"func": "held", "args": {"x": 1}, "unique": "one"}});
    let work = ask(&running, "/api/work", Some(json!({"func": "held", "args": {"x": 2}}))).1.expect("it is accepted");
    std::thread::scope(|scope| {
        let call = scope.spawn(|| ask(&running, "/api/general", Some(request)));
        eventually("both run", || running.balance().in_flight == 2);
        eventually("it waits", || channels(&mut connection) == 2);
        let polled = scope.spawn(|| told(poll(&running, &work)));
        eventually("both wait", || channels(&mut connection) == 3);
        cut(&redis);
        gate.open();
        assert_eq!(call.join().expect("it is answered").json()["data"], json!({"x": 1}));
        assert_eq!(polled.join().expect("it is answered"), json!({"status": "done", "value": {"x": 2}}));
    });
}

#[test]
fn an_answer_is_heard_also_where_the_connection_that_listens_died_without_a_word() {
    let (redis, gate) = (scratch(), Gate::default());
    let wire = Wire::to(&redis.url());
    let running = daemon(&redis, &gate, |config| config.redis.url = wire.url());
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let request = json!({"request": {"func": "held", "args": {"x": 1}, "unique": "one"}});
    std::thread::scope(|scope| {
        let call = scope.spawn(|| ask(&running, "/api/general", Some(request)));
        eventually("it runs", || running.balance().in_flight == 1);
        eventually("it waits", || channels(&mut connection) == 2);
        // What was connected before hears nothing any more, and is told nothing of that.
        wire.cut();
        wire.mend();
        gate.open();
        assert_eq!(call.join().expect("it is answered").json()["data"], json!({"x": 1}));
    });
}

#[test]
fn a_client_that_waits_for_work_of_which_nobody_is_told_how_it_ends_is_told_when_it_does() {
    let (redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let element = json!({"id": "w-quiet", "func": "held", "args": {}, "track": true, "reply": false}).to_string();
    cmd("SET").arg("CERBAS-STAGE-w-quiet").arg("accepted").exec(&mut connection).expect("it answers");
    cmd("RPUSH").arg("CERBAS-QUEUE").arg(element).exec(&mut connection).expect("it answers");
    let pending = json!({"status": "pending"});
    eventually("it runs", || ask(&running, "/api/status/w-quiet", None).json() == pending);
    // It waits for longer than this test does.
    let polled = poll(&running, "/api/status/w-quiet");
    eventually("it waits", || channels(&mut connection) == 2);
    gate.open();
    assert_eq!(told_as(404, polled)["data"], "no work has this id, or its time is over");
}

#[test]
fn a_client_that_waits_for_a_change_while_redis_goes_away_is_told_at_its_time_what_was_known() {
    let (mut redis, gate) = (scratch(), Gate::default());
    let running = daemon(&redis, &gate, |_| {});
    let work = ask(&running, "/api/work", Some(json!({"func": "held", "args": {}}))).1.expect("it is accepted");
    eventually("it runs", || ask(&running, &work, None).json() == json!({"status": "pending"}));
    let mut connection = connect(&redis.url()).expect("Redis is there");
    let waiting = std::thread::scope(|scope| {
        let polled = scope.spawn(|| ask(&running, &format!("{work}?wait=2s"), None));
        eventually("it waits", || channels(&mut connection) == 2);
        redis.kill();
        polled.join().expect("it is answered")
    });
    assert_eq!((waiting.0, waiting.json()), (200, json!({"status": "pending"})));
    gate.open();
}
