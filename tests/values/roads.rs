//! Every value down every road.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use cerbas::protocol::json::Object;

use super::{VALUES, over_both_brokers};

/// A program that gives back the argument `v` without reading it: text in, text out.
const WORKER: &str = r#"
[functions.worker]
worker = ["sed", "-u", 's/^{"id":\("[^"]*"\),"func":"[^"]*","args":{"v":\(.*\)},"user":null,"source":.*$/{"id":\1,"status":"ok","data":\2}/']
"#;

/// Echoes, in the ways in which functions can.
const FUNCTIONS: &str = r#"
[functions.echo]
builtin = "echo"
[functions.command]
command = ["cat"]
[functions.variable]
command = ["sh", "-c", "printf %s \"$CERBAS_ARG_V\""]
"#;

/// An HTTP server that gives back what it is sent.
fn mirror() -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there is a free port");
    let address = listener.local_addr().expect("it has an address");
    thread::spawn(move || listener.incoming().flatten().for_each(|stream| drop(thread::spawn(|| reflect(stream)))));
    address
}

fn reflect(stream: TcpStream) {
    let mut reader = BufReader::new(stream);
    loop {
        let mut length = 0;
        loop {
            let mut line = String::new();
            if reader.read_line(&mut line).unwrap_or(0) == 0 {
                return;
            }
            if let Some(text) = line.to_ascii_lowercase().strip_prefix("content-length:") {
                length = text.trim().parse().expect("a length is a number");
            }
            if line == "\r\n" {
                break;
            }
        }
        let mut body = vec![0; length];
        reader.read_exact(&mut body).expect("the body comes");
        let head = format!("HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n\r\n");
        let _gone = reader.get_mut().write_all(&[head.as_bytes(), &body].concat());
    }
}

#[test]
fn every_value_comes_back_from_every_kind_of_function() {
    let http = format!("[functions.http]\nhttp = \"http://{}\"\n", mirror());
    over_both_brokers(&[FUNCTIONS, WORKER, &http].concat(), |house| {
        for value in VALUES {
            let args = format!("{{\"v\":{value}}}");
            let whole = |func: &str| {
                let line = house.call(house.client(), func, value);
                assert!(line.contains(&format!(",\"args\":{args},")), "{func} of {value}: {line}");
            };
            whole("command");
            whole("http");
            for (func, expected) in [("native", &*args), ("onward", &*args), ("worker", value), ("variable", value)] {
                assert_eq!(house.call(house.client(), func, value), expected, "{func}");
            }
        }
    });
}

#[test]
fn every_value_comes_back_after_a_delay_a_retry_and_from_all_daemons() {
    over_both_brokers("", |house| {
        for value in VALUES {
            let args = format!("{{\"v\":{value}}}");
            let delayed = house.client().delay(Duration::from_millis(10));
            assert_eq!(house.call(delayed, "native", value), args, "delayed");
            assert_eq!(house.call(house.client(), "second", value), args, "retried");
            let delayed = house.client().delay(Duration::from_millis(10));
            assert_eq!(house.call(delayed, "second", value), args, "delayed and retried");
            let all = house.call(house.client().node("*"), "native", value);
            assert!(all.ends_with(&format!(":{{\"status\":\"ok\",\"data\":{args}}}}}")), "{all}");
        }
    });
}

#[test]
fn every_value_comes_back_over_http_by_each_of_its_ways() {
    over_both_brokers(FUNCTIONS, |house| {
        for value in VALUES {
            let args = format!("{{\"v\":{value}}}");
            let expected = (200, format!("{{\"status\":\"ok\",\"data\":{args}}}"));
            assert_eq!(house.ask("/api/native", Some(args.clone())), expected);
            assert_eq!(house.ask("/api/second", Some(args.clone())), expected, "retried");
            let general = |more: &str| format!("{{\"request\":{{\"func\":\"native\",\"args\":{args}{more}}}}}");
            assert_eq!(house.ask("/api/general", Some(general(""))), expected);
            assert_eq!(house.ask("/api/general", Some(general(",\"delay\":1"))), expected, "by the queue");
            let work = format!("{{\"func\":\"native\",\"args\":{args}}}");
            let (status, accepted) = house.ask("/api/work", Some(work));
            let accepted: Object = serde_json::from_str(&accepted).expect("it is an object");
            let callback = accepted.text("callback").unwrap_or_else(|| panic!("{status}: {accepted:?}"));
            let done = house.done(&callback);
            assert_eq!(done, (200, format!("{{\"status\":\"done\",\"value\":{args}}}")));
        }
    });
}

#[test]
fn numbers_of_a_query_keep_their_digits() {
    over_both_brokers("", |house| {
        let query = "/api/native?z=117.63331139400017&a=18446744073709551616&b=1.0&b=-0";
        let expected = r#"{"status":"ok","data":{"z":117.63331139400017,"a":18446744073709551616,"b":[1.0,-0]}}"#;
        assert_eq!(house.ask(query, None), (200, expected.to_owned()));
    });
}

#[test]
fn white_space_in_a_request_does_not_break_the_line_of_a_worker() {
    over_both_brokers(WORKER, |house| {
        let body = "{\n  \"v\" : [ 1.0 ,\r\n\t{ \"b\" : \"a  b\" , \"a\" : 1e400 } ]\n}".to_owned();
        let expected = r#"{"status":"ok","data":[1.0,{"b":"a  b","a":1e400}]}"#;
        assert_eq!(house.ask("/api/worker", Some(body)), (200, expected.to_owned()));
    });
}

#[test]
fn a_value_of_127_levels_is_answered_and_a_deeper_one_is_an_error() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let printing =
        |name: &str, levels: usize| format!("[functions.{name}]\ncommand = [\"echo\", \"{}\"]\n", deep(levels));
    over_both_brokers(&[printing("most", 127), printing("more", 128)].concat(), |house| {
        assert_eq!(house.client().call("most", ()).expect("it has a value").as_json(), deep(127));
        let error = house.client().call("more", ()).expect_err("it is too deep").to_string();
        assert_eq!(error, "output: too deep: it has more than 127 levels");
        let (status, accepted) = house.ask("/api/work", Some("{\"func\":\"most\"}".to_owned()));
        let accepted: Object = serde_json::from_str(&accepted).expect("it is an object");
        let callback = accepted.text("callback").unwrap_or_else(|| panic!("{status}: {accepted:?}"));
        let done = house.done(&callback);
        assert_eq!(done, (200, format!("{{\"status\":\"done\",\"value\":{}}}", deep(127))));
        // The answers of all are one level of their own, and so is each.
        let error = house.client().node("*").call("most", ()).expect_err("it is too deep").to_string();
        assert!(error.contains("too deep"), "{error}");
    });
}

#[test]
fn what_is_no_value_is_refused_before_any_function_runs() {
    over_both_brokers("", |house| {
        for body in [r#"{"v":"\ud83d"}"#, "{\"v\":NaN}", "{\"v\":Infinity}", "{\"v\":\"\u{1}\"}", "{\"v\":01}"] {
            let (status, answer) = house.ask("/api/native", Some(body.to_owned()));
            assert_eq!(status, 400, "{body}: {answer}");
        }
        assert_eq!(house.running.balance().accepted, 0);
    });
}
