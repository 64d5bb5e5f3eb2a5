//! What the daemon does, in OpenMetrics text for Prometheus.
//!
//! Labels have only names that an operator has given: functions, crontab entries, queues, sites, targets. What clients send never
//! becomes a label, so the number of series has a bound.

use std::collections::BTreeMap;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeCounterValue, EncodeGaugeValue, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::exemplar::Exemplar;
use prometheus_client::registry::Registry;

use super::services::Services;
use super::vitals::Vitals;
use crate::dispatch::CacheStatus;
use crate::ledger::{BOUNDS, Balance, Reading};
use crate::protocol::{CRON_FUNCTION, MAIL_FUNCTION, Verdict};
use crate::proxy::{Sites, Stand};

/// No more crontab entries have series of their own.
const MOST_ENTRIES: usize = 1000;

#[derive(Debug)]
struct Snapshot {
    vitals: Vitals,
    balance: Balance,
    readings: BTreeMap<Box<str>, Reading>,
    cache: CacheStatus,
    statuses: Vec<(u16, u64)>,
    connections: u64,
    waiting: u64,
    targets: Vec<TargetLook>,
}

#[derive(Debug)]
struct TargetLook {
    site: String,
    target: String,
    is_well: bool,
    stand: Stand,
    in_flight: u64,
    ended: [u64; 2],
}

/// All metrics at this moment.
pub(super) fn encode(services: &Services, sites: &Sites) -> String {
    let ledger = services.dispatcher.ledger();
    let target = |(site, target): (&String, &std::sync::Arc<crate::proxy::Target>)| TargetLook {
        site: site.clone(),
        target: target.address.to_string(),
        is_well: target.is_well(),
        stand: target.breaker().stand(),
        in_flight: target.in_flight() as u64,
        ended: target.ended(),
    };
    let targets = sites.iter().flat_map(|site| site.targets.iter().map(move |target| (&site.terms.name, target)));
    let snapshot = Snapshot {
        vitals: (services.vitals)(),
        balance: services.dispatcher.balance(),
        readings: ledger.readings(),
        cache: services.dispatcher.cache(),
        statuses: services.traffic.statuses(),
        connections: services.crowd.len() as u64,
        waiting: services.waiting.load(std::sync::atomic::Ordering::Relaxed) as u64,
        targets: targets.map(target).collect(),
    };
    let mut registry = Registry::with_prefix("cerbas");
    registry.register_collector(Box::new(snapshot));
    let mut text = String::new();
    // Nothing but a full memory keeps text from being written.
    let _always_written = text::encode(&mut text, &registry);
    text
}

type Labels = Vec<(&'static str, String)>;

fn one<T>(value: T) -> impl Iterator<Item = (Labels, T)> {
    std::iter::once((Vec::new(), value))
}

struct Encoder<'a>(DescriptorEncoder<'a>);

impl Encoder<'_> {
    fn counters<T: EncodeCounterValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, T)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Counter)?;
        for (labels, value) in rows {
            let none: Option<&Exemplar<Labels, f64>> = None;
            if labels.is_empty() {
                metric.encode_counter(&value, none)?;
            } else {
                metric.encode_family(&labels)?.encode_counter(&value, none)?;
            }
        }
        Ok(())
    }

    fn gauges<T: EncodeGaugeValue>(
        &mut self,
        name: &str,
        help: &str,
        rows: impl Iterator<Item = (Labels, T)>,
    ) -> fmt::Result {
        let mut metric = self.0.encode_descriptor(name, help, None, MetricType::Gauge)?;
        for (labels, value) in rows {
            if labels.is_empty() {
                metric.encode_gauge(&value)?;
            } else {
                metric.encode_family(&labels)?.encode_gauge(&value)?;
            }
        }
        Ok(())
    }
}

fn label(name: &'static str, value: &str) -> Labels {
    vec![(name, value.to_owned())]
}

impl Collector for Snapshot {
    fn encode(&self, encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let mut encoder = Encoder(encoder);
        self.requests(&mut encoder)?;
        self.pool(&mut encoder)?;
        self.broker(&mut encoder)?;
        self.cron(&mut encoder)?;
        self.http(&mut encoder)?;
        self.process(&mut encoder)
    }
}

impl Snapshot {
    fn functions(&self) -> impl Iterator<Item = (&str, &Reading)> {
        self.readings
            .iter()
            .map(|(name, reading)| (&**name, reading))
            .filter(|(name, _)| !name.starts_with(CRON_FUNCTION))
    }

    fn requests(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        encoder.counters("requests_accepted", "Requests that were accepted", one(self.balance.accepted))?;
        let returned = one(self.balance.returned);
        encoder.counters("requests_returned", "Requests that went back to where they came from", returned)?;
        encoder.gauges("requests_in_flight", "Requests without a verdict", one(self.balance.in_flight))?;
        let verdicts =
            Verdict::ALL.into_iter().map(|verdict| (label("verdict", verdict.as_str()), self.balance.count(verdict)));
        encoder.counters("verdicts", "Requests that ended, by their verdicts", verdicts)?;
        let by_function = self.functions().flat_map(|(name, reading)| {
            Verdict::ALL.into_iter().filter(|verdict| reading.verdicts[*verdict as usize] > 0).map(move |verdict| {
                let labels = vec![("function", name.to_owned()), ("verdict", verdict.as_str().to_owned())];
                (labels, reading.verdicts[verdict as usize])
            })
        });
        encoder.counters("function_verdicts", "Requests of each function that ended", by_function)?;
        let help = "How long requests of each function took, from their acceptance to their verdict";
        let mut metric = encoder.0.encode_descriptor("function_seconds", help, None, MetricType::Histogram)?;
        for (name, reading) in self.functions() {
            let bounds = BOUNDS.iter().map(|bound| *bound as f64 / 1e6).chain([f64::INFINITY]);
            let buckets: Vec<(f64, u64)> = bounds.zip(reading.classes).collect();
            let labels = label("function", name);
            let mut metric = metric.encode_family(&labels)?;
            let count = reading.classes.iter().sum();
            metric.encode_histogram::<Labels>(reading.took.as_secs_f64(), count, &buckets, None)?;
        }
        encoder.gauges("cache_entries", "Answers in the cache", one(self.cache.entries as u64))?;
        encoder.gauges("cache_bytes", "Bytes of answers in the cache", one(self.cache.bytes as u64))?;
        encoder.counters("cache_hits", "Calls that were answered from the cache", one(self.cache.hits))?;
        encoder.counters("cache_misses", "Calls of cached functions that were run", one(self.cache.misses))
    }

    fn pool(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let status = &self.vitals.status;
        let workers = [("idle", status.idle), ("busy", status.busy), ("stuck", status.stuck)];
        let workers = workers.into_iter().map(|(state, count)| (label("state", state), count as u64));
        encoder.gauges("workers", "Worker threads", workers)?;
        encoder.gauges(
            "loops_stalled",
            "Loops of the daemon that do not turn any more",
            one(status.stalled.len() as u64),
        )?;
        encoder.gauges("calls_waiting", "Calls that wait for a worker", one(status.waiting as u64))
    }

    fn broker(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let vitals = &self.vitals;
        encoder.gauges("broker_up", "Whether the broker can be reached", one(u64::from(vitals.is_broker_up)))?;
        let lengths = vitals.queues.iter().map(|(name, length, _)| (label("queue", name), *length));
        encoder.gauges("queue_length", "Requests that wait in a queue", lengths)?;
        let ages = vitals.queues.iter().filter_map(|(name, _, oldest)| Some((label("queue", name), *oldest.as_ref()?)));
        let ages = ages.map(|(labels, oldest)| (labels, oldest as f64 / 1000.0));
        encoder.gauges("queue_oldest_seconds", "How long the first request of a queue has waited", ages)?;
        let unserved = vitals.unserved.into_iter().flat_map(one);
        encoder.gauges("queue_unserved", "Requests that wait in queues that no daemon serves", unserved)?;
        encoder.gauges("delayed", "Requests that wait for their time", vitals.delayed.into_iter().flat_map(one))?;
        encoder.gauges("dead", "Requests on the dead list", vitals.dead.into_iter().flat_map(one))
    }

    fn cron(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let Some(cron) = &self.vitals.status.cron else { return Ok(()) };
        encoder.gauges("cron_entries", "Entries of crontabs", one(cron.entries as u64))?;
        encoder.gauges("cron_broken", "Lines and files of crontabs that are not in force", one(cron.faults as u64))?;
        let entries = || {
            let of_cron = |(name, reading): (&str, &Reading)| {
                let is_mail = name == MAIL_FUNCTION;
                name.strip_prefix(CRON_FUNCTION).filter(|_| !is_mail).map(|name| (name.to_owned(), reading.clone()))
            };
            self.readings.iter().filter_map(move |(name, reading)| of_cron((name, reading))).take(MOST_ENTRIES)
        };
        let last = entries().filter(|(_, reading)| reading.last_ok > 0);
        let last = last.map(|(name, reading)| (label("entry", &name), reading.last_ok as f64 / 1000.0));
        let help = "When an entry last ran well, in seconds since 1970";
        encoder.gauges("cron_last_success_timestamp_seconds", help, last)?;
        let runs = entries().flat_map(|(name, reading)| {
            Verdict::ALL.into_iter().filter(move |verdict| reading.verdicts[*verdict as usize] > 0).map(
                move |verdict| {
                    let labels = vec![("entry", name.clone()), ("verdict", verdict.as_str().to_owned())];
                    (labels, reading.verdicts[verdict as usize])
                },
            )
        });
        encoder.counters("cron_runs", "Runs of each entry that ended", runs)?;
        let mail = self.readings.get_key_value(MAIL_FUNCTION);
        let mails = mail.into_iter().flat_map(|(_, reading)| {
            let ended = Verdict::ALL.into_iter().filter(|verdict| reading.verdicts[*verdict as usize] > 0);
            ended.map(|verdict| (label("verdict", verdict.as_str()), reading.verdicts[verdict as usize]))
        });
        encoder.counters("cron_mails", "Mails of what runs printed", mails)
    }

    fn http(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let statuses = self.statuses.iter().map(|(status, count)| (label("status", &status.to_string()), *count));
        encoder.counters("http_responses", "Answers over HTTP", statuses)?;
        encoder.gauges("http_connections", "Open connections of clients", one(self.connections))?;
        encoder.gauges("http_waiting", "Calls over HTTP that wait for their answer", one(self.waiting))?;
        let labels = |look: &TargetLook| vec![("site", look.site.clone()), ("target", look.target.clone())];
        let targets = || self.targets.iter();
        let well = targets().map(|look| (labels(look), u64::from(look.is_well)));
        encoder.gauges("proxy_target_well", "Whether the health checks of a target say that it is well", well)?;
        let open = targets().map(|look| {
            let stand = match look.stand {
                Stand::Closed => 0,
                Stand::HalfOpen => 1,
                Stand::Open => 2_u64,
            };
            (labels(look), stand)
        });
        encoder.gauges("proxy_breaker", "The breaker of a target: 0 closed, 1 half open, 2 open", open)?;
        let in_flight = targets().map(|look| (labels(look), look.in_flight));
        encoder.gauges("proxy_in_flight", "Requests that are with a target", in_flight)?;
        let ended = targets().flat_map(|look| {
            ["ok", "failed"].into_iter().zip(look.ended).map(|(outcome, count)| {
                let mut labels = labels(look);
                labels.push(("outcome", outcome.to_owned()));
                (labels, count)
            })
        });
        encoder.counters("proxy_requests", "Requests that a target has done", ended)
    }

    fn process(&self, encoder: &mut Encoder<'_>) -> fmt::Result {
        let process = &self.vitals.process;
        encoder.counters("process_cpu_seconds", "Processor time", one(process.cpu))?;
        encoder.gauges("process_resident_memory_bytes", "Memory that is resident", one(process.memory))?;
        encoder.gauges("process_open_fds", "Open descriptors", one(process.descriptors.0))?;
        encoder.gauges("process_max_fds", "How many there may be", one(process.descriptors.1))?;
        encoder.gauges("process_threads", "Threads", one(process.threads))?;
        encoder.gauges("process_start_time_seconds", "When it started, in seconds since 1970", one(process.started))
    }
}
