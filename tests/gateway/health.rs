//! What the gateway says of the daemon's health.

use std::sync::{Arc, Mutex};

use cerbas::config::Config;
use cerbas::dispatch::{Dispatcher, PoolSize, Rules};
use cerbas::gateway::{Gateway, GatewayOptions, Vitals};
use cerbas::thread::Threads;

use crate::support::get;

#[test]
fn a_loop_that_does_not_turn_any_more_makes_livez_and_readyz_503_with_the_reason_until_it_does() {
    let nothing: [(&str, &str); 0] = [];
    let config = Config::from_text("[http]\nlisten = [\"127.0.0.1:0\"]\n", "cerbas.toml", nothing).expect("it is good");
    let http = config.http.expect("it has a gateway");
    let size = PoolSize { workers: 1, max_stuck: 1 };
    let dispatcher = Dispatcher::start(Rules::default(), size, &Threads::default());
    let stalled = Arc::new(Mutex::new(Vec::new()));
    let look = {
        let stalled = Arc::clone(&stalled);
        Arc::new(move || stalled.lock().expect("nothing panics under this lock").clone())
    };
    let gateway = Gateway::start(GatewayOptions {
        pages: Vec::new(),
        listen: http.listen.clone(),
        settings: http.settings.clone(),
        dispatcher: dispatcher.expect("there are threads"),
        open: Arc::new(|| Err("there is no broker".to_owned())),
        faults: look.clone(),
        stalled: look,
        vitals: Arc::new(Vitals::default),
        threads: 1,
        crew: Threads::default(),
    })
    .expect("it starts");
    let at = gateway.addresses()[0];
    assert_eq!((get(at, "/livez").status, get(at, "/readyz").status), (200, 200));

    let reason = "the loop intake-default has not turned for 42 s";
    stalled.lock().expect("nothing panics under this lock").push(reason.to_owned());
    for path in ["/livez", "/readyz"] {
        let response = get(at, path);
        assert_eq!(response.status, 503, "{path}");
        assert_eq!(response.json()["data"], reason, "{path}");
    }
    assert!(get(at, "/livez").json()["turned_ms"].is_object());

    stalled.lock().expect("nothing panics under this lock").clear();
    assert_eq!((get(at, "/livez").status, get(at, "/readyz").status), (200, 200));
}
