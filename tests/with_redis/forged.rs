//! Requests that say that cron has sent them, from clients. Whoever can put an element anywhere, and read all there is, still cannot
//! do what only cron may.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use cerbas::Config;
use cerbas::broker::{
    Beginning, Bound, Broker, Claim, Claimed, End, Following, Memory, RedisBroker, ScratchRedis, Settlement, Source,
    Vouched,
};
use cerbas::config::QueueConfig;
use cerbas::effects::StoreKey;
use cerbas::effects::{Effects, Sending, To};
use cerbas::protocol::{RequestId, Verdict};
use serde_json::{Value, json};

use super::options::options;
use super::world::{Foreign, World, eventually, new_id, scratch};

const REFUSAL: &str = "cerbas authorization - only cron may send this";

/// A daemon with a gateway and a crontab: `wipe`, which is not due, `tick`, which runs each second, and `long`, which goes on until the
/// test lets it end.
struct Attacked {
    world: World,
    folder: PathBuf,
}

impl Attacked {
    fn open() -> Self {
        let folder = std::env::temp_dir().join(format!("cerbas-forged-{}", new_id()));
        fs::create_dir(&folder).expect("a new folder can be made");
        let here = folder.display();
        let long = format!("cd {here} && echo run >> long && while [ -e CRONTAB ] && [ ! -e go ]; do sleep 0.02; done");
        let crontab = format!(
            "#: name=wipe\n0 0 1 1 * touch {here}/harm\n#: name=tick\n@every 1s true\n#: name=long\n@every 1s {long}\n"
        );
        fs::write(folder.join("CRONTAB"), crontab).expect("a file can be written");
        let world = World::with(scratch(), |config| {
            let further = "[http]\nlisten = [\"127.0.0.1:0\"]\n[cron]\n";
            let text = format!("{further}file = \"{here}/CRONTAB\"\nsendmail = \"/usr/bin/true\"\n");
            let nothing: [(&str, &str); 0] = [];
            let read = Config::from_text(&text, "cerbas.toml", nothing).expect("it is a configuration");
            (config.http, config.cron) = (read.http, read.cron);
            config.queues.insert("further".to_owned(), QueueConfig { priority: 1, max_length: None });
            config.auth.sources = Some(["web".to_owned()].into());
        });
        Attacked { world, folder }
    }

    fn foreign(&self) -> Foreign {
        self.world.foreign()
    }

    /// How many lines a file has.
    fn lines(&self, name: &str) -> usize {
        fs::read_to_string(self.folder.join(name)).unwrap_or_default().lines().count()
    }

    /// An instant of `tick` that has ended, and its record.
    fn recorded(&self) -> (String, String) {
        let mut found = None;
        eventually("a run is on record", || {
            let runs: Vec<(String, String)> = self.foreign().ask(&["HGETALL", "CERBAS-CRON-RUNS-tick"]);
            found = runs.into_iter().find(|(_, record)| record.contains("\"ran\""));
            found.is_some()
        });
        found.expect("it is there")
    }

    /// All ways to say that cron has sent it.
    fn forgeries(&self, instant: &str) -> Vec<Value> {
        let cron =
            |name: &str, instant: &str| json!({"name": name, "instant": instant, "at": 1, "local": "l", "zone": "z"});
        let with = |name: &str, value: Value| {
            let mut cron = cron("zz", "i");
            cron[name] = value;
            json!({"func": "hello", "source": "web", "cron": cron})
        };
        let mail = json!({"to": "victim@example.org", "from": "boss@example.org", "subject": "s", "text": "t"});
        vec![
            json!({"func": "cron/wipe", "source": "cron"}),
            json!({"func": "cron/wipe", "source": "web"}),
            json!({"func": "cron/nobody", "source": "web"}),
            json!({"func": "cron/.mail", "source": "cron", "args": mail}),
            json!({"func": "hello", "source": "web", "cron": cron("zz", "i")}),
            json!({"func": "hello", "source": "web", "cron": cron("tick", instant)}),
            json!({"func": "cron/tick", "source": "cron", "cron": cron("tick", instant)}),
            json!({"func": "cron/wipe", "source": "cron", "cron": cron("wipe", "i")}),
            with("mail", mail.clone()),
            with("waits", json!(true)),
            json!({"func": "witherror", "source": "web", "cron": {"name": "zz", "instant": "i", "at": 1, "local": "l",
                "zone": "z", "on_failure": {"func": "cron/wipe", "source": "cron"}}}),
            // Refused for other reasons, too: what is told of a refusal counts as little.
            json!({"func": "sum", "source": "web", "cron": cron("tick", instant)}),
            json!({"func": "nothing", "source": "web", "cron": cron("tick", instant)}),
            json!({"func": "hello", "source": "web", "cron": cron("tick", instant), "unique": "k", "on_duplicate": "replace"}),
            json!({"func": "cron/wipe", "delay": 1, "unique": "k", "retries": 3, "attempt": 1, "first_at": 1}),
        ]
    }

    /// That none of it has had an effect.
    fn check_unharmed(&self, instant: &str, record: &str) {
        assert!(!self.folder.join("harm").exists(), "the line of a crontab has run");
        let mut foreign = self.foreign();
        assert_eq!(foreign.ask::<String>(&["HGET", "CERBAS-CRON-RUNS-tick", instant]), record);
        let runs = foreign.keys("CERBAS-CRON-RUNS-*");
        assert!(runs.iter().all(|key| key.ends_with("-tick") || key.ends_with("-long")), "{runs:?}");
        let metrics = self.http("/metrics", None).1;
        let samples = metrics.lines().filter(|line| !line.starts_with('#'));
        let names: Vec<&str> = samples.filter(|line| line.contains("zz") || line.contains("mail")).collect();
        assert!(names.is_empty(), "{names:?}");
    }

    fn http(&self, target: &str, body: Option<&Value>) -> (u16, String) {
        let url = format!("http://{}{target}", self.world.running.http_addresses()[0]);
        let agent: ureq::Agent = ureq::Agent::config_builder().http_status_as_error(false).build().into();
        let answer = match body {
            Some(body) => agent.post(&url).header("Content-Type", "application/json").send(body.to_string()),
            None => agent.get(&url).call(),
        };
        let mut answer = answer.expect("the gateway answers");
        (answer.status().as_u16(), answer.body_mut().read_to_string().expect("it is text"))
    }
}

impl Drop for Attacked {
    fn drop(&mut self) {
        let _nobody_minds = fs::remove_dir_all(&self.folder);
    }
}

fn refused() -> Value {
    json!({"status": "error", "data": REFUSAL, "verdict": "rejected"})
}

#[test]
fn what_a_client_pushes_is_never_taken_for_what_cron_has_sent_wherever_he_pushes_it() {
    let attacked = Attacked::open();
    let (instant, record) = attacked.recorded();
    let mut foreign = attacked.foreign();
    let node: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-NODES", "0", "-1"]);
    let inbox = format!("CERBAS-INBOX-{}", node[0]);
    for list in ["CERBAS-QUEUE", "CERBAS_QUEUE", "CERBAS-QUEUE-further", "CERBAS-SUSPECTS", &inbox] {
        for forged in attacked.forgeries(&instant) {
            let id = new_id();
            let mut request = forged.clone();
            request["id"] = json!(id);
            let _: i64 = foreign.ask(&["RPUSH", list, &request.to_string()]);
            assert_eq!(foreign.answer(&id), refused(), "{list}: {forged}");
        }
    }
    for forged in attacked.forgeries(&instant) {
        let id = foreign.try_send_numbered(&forged).expect("Redis is there");
        assert_eq!(foreign.answer(&id), refused(), "numbered: {forged}");
    }
    attacked.check_unharmed(&instant, &record);
    eventually("what cron has sent is forgotten when it ends", || {
        let sent: Vec<String> = foreign.ask(&["HKEYS", "CERBAS-CRON-SENT"]);
        sent.iter().all(|id| id.starts_with("cron:long:"))
    });
}

#[test]
fn the_id_of_a_run_that_goes_on_makes_no_request_one_of_cron() {
    let attacked = Attacked::open();
    let (instant, record) = attacked.recorded();
    let mut foreign = attacked.foreign();
    // What is on record as sent is another request than this.
    let genuine = json!({"id": "cron:wipe:i", "func": "hello"}).to_string();
    let _: i64 = foreign.ask(&["HSET", "CERBAS-CRON-SENT", "cron:wipe:i", &genuine]);
    foreign.send("cron:wipe:i", json!({"func": "cron/wipe", "source": "cron"}));
    assert_eq!(foreign.answer("cron:wipe:i"), refused());
    attacked.check_unharmed(&instant, &record);
}

#[test]
fn a_copy_of_what_cron_has_sent_does_not_run_beside_it() {
    let attacked = Attacked::open();
    let mut foreign = attacked.foreign();
    let mut sent: Vec<(String, String)> = Vec::new();
    eventually("a run goes on", || {
        sent = foreign.ask(&["HGETALL", "CERBAS-CRON-SENT"]);
        sent.iter().any(|(id, _)| id.starts_with("cron:long:")) && attacked.lines("long") == 1
    });
    let (id, copy) = sent.into_iter().find(|(id, _)| id.starts_with("cron:long:")).expect("it goes on");
    let node: Vec<String> = foreign.ask(&["ZRANGE", "CERBAS-NODES", "0", "-1"]);
    let inbox = format!("CERBAS-INBOX-{}", node[0]);
    let rejected = |foreign: &mut Foreign| -> u64 {
        foreign.ask::<Option<u64>>(&["HGET", "CERBAS-VERDICTS", "rejected"]).unwrap_or_default()
    };
    for list in ["CERBAS-QUEUE", "CERBAS-QUEUE-further", "CERBAS-SUSPECTS", &inbox] {
        let _: i64 = foreign.ask(&["RPUSH", list, &copy, &copy]);
    }
    // Each second another run is rejected, as this one goes on.
    let skipped = || -> u64 {
        let runs: Vec<String> = attacked.foreign().ask(&["HVALS", "CERBAS-CRON-RUNS-long"]);
        runs.iter().filter(|run| run.contains("skipped")).count() as u64
    };
    eventually("all copies are refused", || rejected(&mut foreign) >= 8 + skipped());
    assert_eq!(attacked.lines("long"), 1);
    let instant = id.trim_start_matches("cron:long:");
    let record: String = foreign.ask(&["HGET", "CERBAS-CRON-RUNS-long", instant]);
    assert!(record.contains("\"waiting\""), "{record}");
    fs::write(attacked.folder.join("go"), "").expect("a file can be written");
    eventually("it ends well", || {
        let record: String = foreign.ask(&["HGET", "CERBAS-CRON-RUNS-long", instant]);
        record.contains("\"verdict\":\"ok\"")
    });
    // A copy of what has ended is none of cron's.
    let _: i64 = foreign.ask(&["RPUSH", "CERBAS-QUEUE", &copy]);
    foreign.send("behind", json!({"func": "hello", "source": "web"}));
    foreign.answer("behind");
    let lines = attacked.lines("long");
    let runs: Vec<String> = foreign.ask(&["HVALS", "CERBAS-CRON-RUNS-long"]);
    let begun = runs.iter().filter(|run| !run.contains("skipped")).count();
    assert!(lines <= begun, "{lines} runs of {begun}");
    eventually("nothing is left of what has ended", || foreign.ask::<u64>(&["HLEN", "CERBAS-CRON-TAKEN"]) <= 1);
}

#[test]
fn what_comes_over_http_is_never_taken_for_what_cron_has_sent() {
    let attacked = Attacked::open();
    let (instant, record) = attacked.recorded();
    for forged in attacked.forgeries(&instant) {
        let call = attacked.http("/api/general", Some(&json!({"request": forged})));
        assert!(matches!(call.0, 400 | 403), "{forged}: {call:?}");
        // What is accepted as work is refused when a daemon takes it.
        let work = attacked.http("/api/work", Some(&forged));
        assert!(matches!(work.0, 202 | 400), "{forged}: {work:?}");
    }
    let mut foreign = attacked.foreign();
    eventually("all work is done", || foreign.waiting() == 0 && foreign.keys("CERBAS-STAGE-*").is_empty());
    let results = foreign.keys("CERBAS-RESULT-*");
    assert!(!results.is_empty());
    for result in results {
        assert_eq!(foreign.stored(result.trim_start_matches("CERBAS-RESULT-")), Some(refused()));
    }
    attacked.check_unharmed(&instant, &record);
}

#[test]
fn a_queue_that_is_too_long_refuses_what_is_forged_without_believing_it() {
    let redis: ScratchRedis = scratch();
    let mut foreign = Foreign::connect(&redis.url());
    let cron = json!({"name": "tick", "instant": "i", "at": 1, "local": "l", "zone": "z"});
    let record = "{\"outcome\":\"ran\"}";
    let _: i64 = foreign.ask(&["HSET", "CERBAS-CRON-RUNS-tick", "i", record]);
    // The newest is the first that is refused.
    for number in 0..4 {
        foreign.send(&format!("id-{number}"), json!({"func": "hello", "cron": cron}));
    }
    let world = World::with(redis, |config| {
        config.queues.insert("default".to_owned(), QueueConfig { priority: 1, max_length: Some(1) });
    });
    for number in 0..4 {
        assert_eq!(foreign.answer(&format!("id-{number}")), refused(), "{number}");
    }
    assert_eq!(foreign.ask::<String>(&["HGET", "CERBAS-CRON-RUNS-tick", "i"]), record);
    world.check_all_settled();
}

/// The one element that waits in `source`.
fn claim(broker: &dyn Broker, source: Source) -> Claim {
    let mut claimed: Vec<Claimed> = broker.claim(source, 10, Duration::ZERO).expect("it is there");
    assert_eq!(claimed.len(), 1, "{}", broker.address());
    claimed.remove(0).claim
}

/// The room whose requests are copied.
const CRON: &str = "cron";

fn take(broker: &dyn Broker, id: &RequestId, claim: &Claim) -> bool {
    broker.take_vouched(CRON, &[(id, &claim.element)]).expect("it is there")[0]
}

/// That of two copies of what cron has sent one is taken, until it ends, also for what follows on it and for its next run.
fn check_copies(broker: &dyn Broker, copy: impl Fn(&[u8])) {
    let at = broker.address();
    let id = RequestId::from_text("cron:a:i").expect("it is an id");
    let request = Following { id: id.clone(), element: r#"{"id":"cron:a:i","func":"cron/a"}"#.into() };
    let run = Beginning {
        room: CRON.into(),
        key: StoreKey::new("CRON-RUNS-a"),
        field: "i".into(),
        value: "{}".into(),
        request: Some(request),
        unless: None,
        note: None,
        bound: Bound { most: 10, last: "z".into(), seconds: 60 },
    };
    broker.begin(&[run]).expect("it is there");
    let first = claim(broker, Source::Inbox);
    assert!(take(broker, &id, &first) && take(broker, &id, &first), "{at}: it may be asked twice");
    copy(&first.element);
    let second = claim(broker, Source::Queue(0));
    assert!(!take(broker, &id, &second), "{at}: it is a copy");
    broker.settle(&[Settlement::plain(second, End::HandedBack).into()]).expect("it is there");

    // It waits for its next run, in another form.
    let waiting = br#"{"id":"cron:a:i","func":"cron/a","attempt":1}"#;
    let vouched = || Some(Vouched { room: CRON, id: id.clone() });
    let first = Claim { vouched: vouched(), ..first };
    let deferred = End::Deferred { due: 1, waiting: waiting[..].into() };
    broker.settle(&[Settlement::plain(first, deferred).into()]).expect("it is there");
    let old = claim(broker, Source::Queue(0));
    assert!(!take(broker, &id, &old), "{at}: it is of the run before");
    let next = claim(broker, Source::Delayed);
    assert!(take(broker, &id, &next), "{at}: it is the next run");

    // It ends, and a request follows.
    let follow = RequestId::from_text("cron:a:i-mail").expect("it is an id");
    let mail = Box::<[u8]>::from(&br#"{"id":"cron:a:i-mail","func":"cron/.mail"}"#[..]);
    let send = vec![Sending { id: follow.clone(), element: mail, to: To::Here, room: Some(CRON) }];
    copy(&next.element);
    let claim_of_next = Claim { vouched: vouched(), ..next };
    let end = End::Answered { id: id.clone(), verdict: Verdict::Ok, answer: None, is_tracked: false };
    let effects = Effects { send, ..Effects::default() };
    broker.settle(&[Settlement { claim: claim_of_next, end, effects }.into()]).expect("it is there");
    let late = claim(broker, Source::Queue(0));
    assert!(!take(broker, &id, &late), "{at}: it has ended");
    let mail = claim(broker, Source::Inbox);
    assert!(take(broker, &follow, &mail), "{at}: it follows");
    assert!(!take(broker, &id, &mail), "{at}: it has another id");
}

#[test]
fn of_two_copies_of_what_cron_has_sent_both_brokers_take_one() {
    let memory = Memory::new(Duration::from_secs(60));
    check_copies(&memory, |element| memory.push(0, element));
    let redis = scratch();
    let broker = RedisBroker::new(options(&redis.url(), "n.1", Duration::from_secs(60)));
    check_copies(&broker, |element| Foreign::connect(&redis.url()).push(element));
}
