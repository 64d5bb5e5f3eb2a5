//! Redis dies in the middle of everything.

use std::fs;
use std::thread;
use std::time::Duration;

use super::world::{Foreign, Load, RETURN, World, eventually, scratch_with_log};

#[test]
fn a_redis_that_is_killed_in_the_middle_of_ten_thousand_requests_costs_no_answer() {
    let mut world = World::with(scratch_with_log(), |config| config.server.result_ttl = Duration::from_secs(600));
    let url = world.redis.url();
    // Two clients, so that neither of them decides where Redis is hit.
    let clients: Vec<_> = [0..5000, 5000..10_000]
        .map(|numbers| {
            let mut foreign = Foreign::connect(&url);
            thread::spawn(move || foreign.send_mixed(numbers))
        })
        .into();
    eventually("thousands are accepted", || world.running.balance().accepted > 3000);
    world.redis.kill();
    thread::sleep(Duration::from_millis(500));
    world.revive();
    world.foreign().check_served(RETURN);

    let asked: Vec<_> = clients.into_iter().flat_map(|client| client.join().expect("all are sent")).collect();
    // Each client loses sight of the one that it was sending, and of those that it tries before it notices.
    assert!(asked.len() > 9900, "only {} were acknowledged", asked.len());
    world.foreign().check_answered(&asked);
    world.check_all_settled();
    assert_eq!(world.foreign().keys("CERBAS-DEAD"), [""; 0], "no body was lost");
}

#[test]
fn a_redis_that_forgets_its_last_moments_keeps_no_request_for_ever() {
    let mut world = World::with(scratch_with_log(), |config| config.server.result_ttl = Duration::from_secs(600));
    let load = Load::start(&world.redis.url());
    load.go_on(1000);
    world.redis.kill();
    // As a machine that loses power does: the end of the log is not on the disk, torn at any place.
    let log = fs::read_dir(world.redis.folder().join("appendonlydir")).expect("there is a log");
    let log = log.flatten().find(|entry| entry.file_name().to_string_lossy().ends_with(".incr.aof"));
    let log = log.expect("there is a log").path();
    let length = fs::metadata(&log).expect("it is there").len();
    let file = fs::OpenOptions::new().write(true).open(&log).expect("it can be written");
    file.set_len(length * 9 / 10 - 3).expect("it can be cut");
    world.revive();

    world.foreign().check_served(RETURN);
    load.go_on(100);
    let asked = load.stop();
    // What Redis forgot, it forgot. What it has is worked off, and what came after is answered.
    let last: Vec<_> = asked[asked.len() - 50..].to_vec();
    world.foreign().check_answered(&last);
    world.check_all_settled();
}
