//! cerbas inside another program, without a Redis: `cargo run --example embed`.
//!
//! The same program serves requests from Redis with `Server::at("redis://...")`, or as a file says with `Server::from_file`.

use cerbas::{Call, Server};
use serde::Deserialize;
use serde_json::json;

#[derive(Deserialize)]
struct Greet {
    name: String,
}

fn greet(call: &Call, args: Greet) -> Result<String, cerbas::NativeError> {
    if args.name.is_empty() {
        return Err("nobody to greet".into());
    }
    Ok(format!("hello {} from {}", args.name, call.source.as_deref().unwrap_or("nobody")))
}

#[allow(clippy::print_stdout, reason = "it is an example")]
fn main() -> Result<(), Box<dyn std::error::Error>> {
    let running = Server::in_memory().function("greet", greet).start()?;
    let mut client = running.client()?.source("embed");

    let greeting = client.call("greet", json!({"name": "world"}))?;
    assert_eq!(greeting, "hello world from embed");
    println!("{greeting}");

    let refused = client.call("greet", json!({"name": 7})).expect_err("7 is no name");
    assert!(refused.to_string().starts_with("invalid arguments: invalid type: integer `7`"), "{refused}");
    println!("a wrong argument: {refused}");

    let balance = running.balance();
    println!("{} accepted, {} in flight", balance.accepted, balance.in_flight);
    assert!(balance.holds() && running.stop().is_clean());
    Ok(())
}

#[test]
fn the_example_runs() {
    main().expect("it ends well");
}
