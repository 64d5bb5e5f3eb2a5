//! The version of what is in Redis.

use std::time::Duration;

use cerbas::Server;

use super::world::{Foreign, RETURN, World, config, eventually, scratch};

#[test]
fn data_of_a_newer_version_are_refused_at_start_and_untouched() {
    let redis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let () = foreign.ask(&["SET", "CERBAS-SCHEMA", "2"]);
    let error = Server::new(config(&redis.url())).start().expect_err("it does not start").to_string();
    let expected = "its data were written by a newer cerbas (schema 2, this one knows 1): update this one";
    assert!(error.ends_with(expected), "{error}");
    assert_eq!(foreign.keys("*"), ["CERBAS-SCHEMA"]);
}

#[test]
fn the_version_is_stamped_again_in_a_redis_that_was_emptied() {
    let world = World::with(scratch(), |config| config.server.lease = Duration::from_secs(1));
    let mut foreign = world.foreign();
    assert_eq!(foreign.ask::<String>(&["GET", "CERBAS-SCHEMA"]), "1");
    let () = foreign.ask(&["FLUSHALL"]);
    eventually("it is stamped again", || {
        foreign.try_ask::<String>(&["GET", "CERBAS-SCHEMA"]).is_ok_and(|version| version == "1")
    });
    foreign.check_served(RETURN);
}
